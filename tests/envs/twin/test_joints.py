"""The simulated arm follows its commands as a controller with feed-forward does."""

import mujoco
import numpy as np
import pytest

pytest.importorskip("franky_sim")

from envs.scene import build_model
from envs.twin.joints import Follower
from envs.twin.server import HEAD, TICK_S, TableSimulator

REST = np.array([0.0, -0.1, 0.0, -2.2, 0.0, 2.1, 0.785])


@pytest.fixture
def follower():
    made = Follower(build_model("cube", 32), TICK_S)
    made.begin(REST)
    return made


def tcp_pose(model, q):
    data = mujoco.MjData(model)
    data.qpos[:7] = q
    mujoco.mj_kinematics(model, data)
    quaternion = np.zeros(4)
    site = model.site("tcp").id
    mujoco.mju_mat2Quat(quaternion, data.site_xmat[site])
    return data.site_xpos[site].copy(), quaternion


def test_joints_are_those_of_the_pose(follower):
    rng = np.random.default_rng(0)
    for _ in range(20):
        near = REST + rng.uniform(-0.01, 0.01, 7)
        position, quaternion = tcp_pose(follower.model, near)
        for sign in (1, -1):  # a quaternion and its negative are the same rotation
            q = follower.joints(position, sign * quaternion)
            found, _ = tcp_pose(follower.model, q)
            np.testing.assert_allclose(found, position, atol=2e-6)
            assert np.abs(q - REST).max() < 0.03


def test_a_joint_at_its_stop_stays_there_and_the_others_do_without_it(follower):
    low = follower.model.jnt_range[5, 0]
    aside = np.array([0.2, 0.0, 0.5, 0.0, 0.6, 0.0, 0.0])  # of the elbow: there are other ways
    start = REST + aside
    start[5] = low + 0.02
    position, quaternion = tcp_pose(follower.model, start)
    turned = np.zeros(4)  # the hand turns about an axis of the table, further than the joint can
    follower.begin(start)
    lowest = np.inf
    for i in range(60):
        mujoco.mju_axisAngle2Quat(turned, np.array([0.0, 1.0, 0.0]), 0.001 * i)
        mujoco.mju_mulQuat(turned, turned.copy(), quaternion)
        q = follower.joints(position, turned)
        follower.take(q)
        lowest = min(lowest, q[5] - low)
    assert 0 <= lowest < 0.006
    found, _ = tcp_pose(follower.model, q)
    np.testing.assert_allclose(found, position, atol=1e-3)


def test_feed_forward_is_the_commands_own_velocity_and_inertia(follower):
    speed = np.array([0.1, -0.2, 0.1, 0.3, 0.0, -0.1, 0.2])
    for i in range(1, 40):
        velocity, torques = follower.take(REST + speed * i * TICK_S)
    np.testing.assert_allclose(velocity, speed, atol=1e-6)
    np.testing.assert_allclose(torques, 0.0, atol=1e-4)
    _, torques = follower.take(follower.q)  # told to stop: inertia has to be braked
    assert torques @ speed < 0


def test_the_arm_keeps_up_with_a_motion_of_ten_centimetres_a_second():
    simulator = TableSimulator(("cube",), False, 32, [0.0] * (HEAD + 16))
    simulator.init()
    simulator.start()
    robot, model, data = simulator.robot, simulator.model, simulator.data
    data.qpos[:7] = REST
    mujoco.mj_forward(model, data)
    robot.follower.begin(REST)
    start, (w, x, y, z) = tcp_pose(model, REST)
    way, site = np.array([0.05, 0.05, -0.03]), model.site("tcp").id
    behind = []
    for i in range(1000):
        part = min(i / 800, 1.0)
        target = start + way * part**3 * (10 - 15 * part + 6 * part**2)
        robot.cartesian_position_control(np.array([*target, x, y, z, w]), None)
        simulator.step()
        behind.append(float(np.linalg.norm(data.site_xpos[site] - target)))
    assert max(behind) < 1e-3  # without feed-forward: over 4 mm
    assert behind[-1] < 2e-4
