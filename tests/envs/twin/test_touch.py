"""What the simulated arm feels: from contacts, in a real Franka's terms."""

import mujoco
import numpy as np
import pytest

pytest.importorskip("franky_sim")

from envs.arm_env import ArmEnv
from envs.expert import WayPoint, grasp_points, run_expert
from envs.twin.touch import Touch

CONTACTS = (mujoco.mjtConstraint.mjCNSTR_CONTACT_ELLIPTIC,)


@pytest.fixture
def env():
    with_cube = ArmEnv("grasp", objects=("cube",), image_size=32)
    with_cube.reset(seed=3)
    yield with_cube
    with_cube.close()


def settled(env, steps=200):
    """A sense of touch after so many steps of physics at rest."""
    touch = Touch(env.model, env.data)
    for _ in range(steps):
        mujoco.mj_step(env.model, env.data)
        touch.feel()
    return touch


def test_in_free_air_nothing_is_felt(env):
    touch = settled(env)
    assert not touch.torques.any()
    assert not touch.wrench.any()


def test_a_press_on_the_table_is_felt_as_its_contacts_say(env):
    run_expert(env.arm, [WayPoint((0.4, -0.15, 0.06))])
    target = env.arm.commanded.copy()
    target[2] -= 0.06 - 0.0095 + 0.004  # four millimetres into the table
    env.data.ctrl[:7] = env.arm.ik.solve(target, env.data.qpos[:7])
    touch = settled(env, 1500)
    assert touch.wrench[2] > 5.0  # the table pushes the hand up
    # the same torques by the constraint solver's own rows, without contacts of the cube
    rows = np.isin(env.data.efc_type, CONTACTS)
    forces = np.where(rows, env.data.efc_force, 0.0)
    joints = np.zeros(env.model.nv)
    mujoco.mj_mulJacTVec(env.model, env.data, joints, forces)
    np.testing.assert_allclose(touch.torques, joints[touch.dofs], rtol=0.01, atol=0.05)
    force, total = np.zeros(6), 0.0
    for i, contact in enumerate(env.data.contact):
        if touch.own[contact.geom].any():
            mujoco.mj_contactForce(env.model, env.data, i, force)
            total += force[0] * abs(contact.frame[2])
    assert touch.wrench[2] == pytest.approx(total, rel=0.1)


def test_what_the_fingers_press_cancels_and_a_held_cube_weighs_on_the_hand(env):
    run_expert(env.arm, [*grasp_points(env.object_m), WayPoint((0.45, 0.0, 0.2))])
    assert env.arm.holding()
    touch = settled(env, 500)
    weight = float(env.model.body("object").mass[0]) * 9.81
    assert touch.wrench[2] == pytest.approx(-weight, abs=0.15)
    assert np.abs(touch.wrench[:2]).max() < 0.3
