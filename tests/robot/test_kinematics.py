import numpy as np
import pytest

from robot.errors import UnreachableError
from robot.kinematics import (
    LIMITS,
    STRETCHED,
    Kinematics,
    flange_pose,
    jacobian,
    rotation_vector,
    stretch,
)
from robot.pose import euler_to_matrix, matrix_to_euler

REST = np.array([0.0, -0.2, 0.0, -2.3, 0.0, 2.1, 0.785])


def test_flange_pose_is_that_of_the_simulated_arm():
    mujoco = pytest.importorskip("mujoco")
    from envs.scene import build_model

    model = build_model()
    data = mujoco.MjData(model)
    site = model.site("flange").id
    rng = np.random.default_rng(0)
    for _ in range(5):
        q = rng.uniform(*model.jnt_range[:7].T)
        data.qpos[:7] = q
        mujoco.mj_forward(model, data)
        pose = flange_pose(q)
        np.testing.assert_allclose(pose[:3, 3], data.site_xpos[site], atol=1e-9)
        np.testing.assert_allclose(pose[:3, :3].ravel(), data.site_xmat[site], atol=1e-9)
    np.testing.assert_allclose(
        model.jnt_range[:7], np.array([LIMITS["fr3"].low, LIMITS["fr3"].high]).T, atol=1e-6
    )


def test_jacobian_agrees_with_finite_differences():
    steps = 1e-6 * np.eye(7)
    for column, step in zip(jacobian(REST).T, steps, strict=True):
        a, b = flange_pose(REST - step), flange_pose(REST + step)
        turn = rotation_vector(b[:3, :3] @ a[:3, :3].T)
        np.testing.assert_allclose(column[:3], (b - a)[:3, 3] / 2e-6, atol=1e-6)
        np.testing.assert_allclose(column[3:], turn / 2e-6, atol=1e-6)


def test_solutions_lead_where_they_should_and_keep_the_margin():
    rng = np.random.default_rng(1)
    solver = Kinematics("fr3", margin_rad=0.1)
    start = flange_pose(REST)
    for _ in range(20):
        position = start[:3, 3] + rng.uniform(-0.07, 0.07, 3)
        angles = matrix_to_euler(euler_to_matrix(rng.uniform(-0.15, 0.15, 3)) @ start[:3, :3])
        q = solver.solve(np.concatenate([position, angles]), REST)
        found = flange_pose(q)
        np.testing.assert_allclose(found[:3, 3], position, atol=6e-4)
        assert (q >= solver.low).all()
        assert (q <= solver.high).all()


def test_out_of_reach_and_joint_margin_are_refused_with_the_reason():
    solver = Kinematics("fr3")
    pose = np.concatenate([[1.4, 0.0, 0.3], [np.pi, 0, 0]])
    with pytest.raises(UnreachableError, match="cannot go to"):
        solver.solve(pose, REST)
    near = REST.copy()
    near[3] = LIMITS["fr3"].low[3] + 0.11  # elbow nearly folded
    flange = flange_pose(near)
    closer = np.concatenate([flange[:3, 3] - [0.08, 0, 0.0], matrix_to_euler(flange[:3, :3])])
    with pytest.raises(UnreachableError, match=r"joint .* limit|m short"):
        solver.solve(closer, near)
    with pytest.raises(UnreachableError, match="fr3, panda"):
        Kinematics("ur5")


def test_a_stretched_arm_is_refused_but_may_come_back():
    solver = Kinematics("fr3")
    low = np.array([np.pi, 0, -np.pi / 4])
    q, place = REST, flange_pose(REST)[:3, 3]
    for part in np.linspace(0, 1, 30):  # to where elbow and wrist are nearly in line
        target = place + part * (np.array([0.72, 0.32, 0.5]) - place)
        wanted = np.concatenate([target, low])
        try:
            q = solver.solve(wanted, q)
        except UnreachableError:
            break
        assert stretch(q) >= STRETCHED
    with pytest.raises(UnreachableError, match="stretched"):
        solver.solve(wanted, q)
    straight = q.copy()
    straight[1], straight[3] = straight[1] + 0.5, -0.55
    assert stretch(straight) < STRETCHED
    flange = flange_pose(straight)
    back = flange[:3, 3] + [-0.01, 0.0, 0.0]
    came = solver.solve(np.concatenate([back, matrix_to_euler(flange[:3, :3])]), straight)
    assert stretch(came) > stretch(straight)
