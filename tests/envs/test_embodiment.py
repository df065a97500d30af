"""The robot of the DROID data set in our scenes: gripper, cameras and every task."""

import mujoco
import numpy as np
import pytest

import envs
from envs.embodiment import DROID, get_embodiment
from envs.errors import TaskError
from envs.expert import grasp_points, run_expert
from envs.goals import VARIANTS
from envs.tasks import TASKS


@pytest.fixture(scope="module")
def env():
    made = envs.make("pick_place", embodiment="droid", image_size=32, cameras=("left", "wrist"))
    yield made
    made.close()


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_solves_every_task(task):
    env = envs.make(task, embodiment="droid", image_size=16)
    for seed in range(3):
        env.reset(seed=seed)
        env.solve()
        assert env.success(), seed
    env.close()


def test_the_gripper_closes_until_its_pads_touch_and_opens_to_85_mm(env):
    env.reset(seed=0)
    assert env.arm.width_m == pytest.approx(DROID.open_width_m, abs=2e-3)
    assert env.arm.state().state[6] == pytest.approx(0.0, abs=0.02)
    for _ in range(3):
        env.step(np.array([0, 0, 0, 0, 0, 0, 1.0]))
    assert env.arm.width_m < 1e-3
    assert env.arm.state().state[6] > 0.98
    assert not env.arm.holding()
    for _ in range(3):
        env.step(np.array([0, 0, 0, 0, 0, 0, -1.0]))
    assert env.arm.width_m > 0.08


def test_the_fingers_open_along_y_about_the_fingertips(env):
    env.reset(seed=0)
    left, right = (env.data.geom(f"robotiq_{side}_pad1").xpos for side in ("left", "right"))
    assert np.abs((left - right)[[0, 2]]).max() < 2e-3
    assert np.allclose((left + right)[:2] / 2, env.tcp_m[:2], atol=2e-3)
    assert env.arm.yaw_rad == pytest.approx(0.0, abs=1e-3)
    flange = env.arm.state().state[:3]
    assert np.linalg.norm(flange - env.tcp_m) == pytest.approx(env.arm_spec.flange_to_tcp_m)


def test_a_grasped_cube_is_as_wide_as_the_gripper_says(env):
    env.reset(seed=3)
    run_expert(env.arm, grasp_points(env.object_m))
    assert env.arm.holding()
    half = env.model.geom_size[env.items[0].geoms[0]][0]
    assert env.arm.state().gripper_width_m == pytest.approx(2 * half, abs=3e-3)


def test_lowest_commands_leave_the_closed_fingers_above_the_table(env):
    env.reset(seed=0)
    env.step(np.array([0, 0, 0, 0, 0, 0, 1.0]))
    for _ in range(12):
        env.step(np.array([0.0, 0.0, -0.075, 0, 0, 0, 0.0]))
    names = {"table", "robotiq_left_pad1", "robotiq_right_pad1"}
    touching = [{env.model.geom(g).name for g in pair} for pair in env.data.contact.geom]
    assert not any("table" in pair and len(pair & names) == 2 for pair in touching)
    low, high = env.box_m
    assert low[2] <= env.arm.state().state[2] <= low[2] + 2e-3
    assert high[2] > low[2]


def test_images_are_wide_and_the_camera_matrix_is_theirs(env):
    seen, _ = env.reset(seed=2)
    assert seen["image"].shape == seen["image_wrist"].shape == (32, 56, 3)
    assert env.observation_space.contains(
        {key: value for key, value in seen.items() if key in env.observation_space.spaces}
    )
    large = envs.make("pick_place", embodiment="droid", image_size=180)
    image, _ = large.reset(seed=2)
    assert image["image"].shape == (180, 320, 3)  # as in the data set
    item, model = large.items[0], large.model
    before = large.render().astype(int)
    u, v, depth = large.camera_matrix() @ np.append(item.position_m, 1.0)
    item.put(np.array([0.5, 3.0]), 0.0)
    mujoco.mj_forward(model, large.data)
    rows, columns = np.nonzero(np.abs(large.render() - before).sum(-1) > 30)
    assert depth > 0
    assert abs(columns.mean() / 320 - u / depth) < 0.02
    assert abs(rows.mean() / 180 - v / depth) < 0.03
    large.close()


def test_detailed_meshes_change_no_physics():
    poses = []
    for fidelity in ("fast", "visual"):
        env = envs.make("pick_place", embodiment="droid", image_size=16, fidelity=fidelity)
        env.reset(seed=1)
        env.solve()
        poses.append((env.model.body_mass.copy(), env.data.qpos.copy()))
        env.close()
    assert np.array_equal(poses[0][0], poses[1][0])
    assert np.array_equal(poses[0][1], poses[1][1])


def test_goals_restore_the_scene_exactly(env):
    env.reset(seed=4)
    before = env.data.qpos.copy()
    for variant in VARIANTS:
        assert env.sub_goals(variant)[0].image.shape == (32, 56, 3)
    assert np.array_equal(env.data.qpos, before)


def test_unknown_embodiments_are_named():
    with pytest.raises(TaskError, match="known: franka, droid"):
        get_embodiment("panda")


def test_the_packaged_gripper_carries_its_licence():
    import importlib.resources
    import zipfile

    archive = importlib.resources.files("envs") / "assets" / "robotiq_2f85.zip"
    with archive.open("rb") as file, zipfile.ZipFile(file) as parts:
        assert b"ROS-Industrial" in parts.read("LICENSE")
        assert b"robotiq_2f85.zip" in (archive.parent / "NOTICE").read_bytes()
