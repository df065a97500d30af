"""Pose arithmetic stands twice, in NumPy for the robot and in torch for the model: one truth."""

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from robot import pose
from worldmodel import actions
from worldmodel.data.sampling import states_of


def states(count: int = 500) -> np.ndarray:
    rng = np.random.default_rng(0)
    angles = rng.uniform([-np.pi, -1.5, -np.pi], [np.pi, 1.5, np.pi], (count, 3))
    return np.concatenate([rng.normal(size=(count, 3)), angles, rng.random((count, 1))], axis=1)


def test_both_agree_with_scipy():
    s = states()
    wanted = Rotation.from_euler("xyz", s[:, 3:6])
    for matrix in (
        pose.euler_to_matrix(s[:, 3:6]),
        actions.euler_to_matrix(torch.from_numpy(s[:, 3:6])).numpy(),
    ):
        np.testing.assert_allclose(matrix, wanted.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(pose.matrix_to_euler(wanted.as_matrix()), s[:, 3:6], atol=1e-9)


def test_both_agree_with_each_other_and_round_trip():
    now, then = states(), states()[::-1].copy()
    action = pose.pose_diff(now, then)
    torch_action = actions.pose_diff(torch.from_numpy(now), torch.from_numpy(then))
    np.testing.assert_allclose(action, torch_action.numpy(), atol=1e-9)
    np.testing.assert_allclose(pose.apply_action(now, action), then, atol=1e-9)
    moved = actions.apply_action(torch.from_numpy(now), torch_action)
    np.testing.assert_allclose(moved.numpy(), then, atol=1e-9)


def test_flange_and_fingertips_are_there_and_back():
    s = states()
    np.testing.assert_allclose(pose.tcp_to_flange(pose.flange_to_tcp(s)), s, atol=1e-9)
    gap = pose.flange_to_tcp(s)[:, :3] - s[:, :3]
    np.testing.assert_allclose(np.linalg.norm(gap, axis=1), 0.1034, atol=1e-9)


def test_gimbal_lock_keeps_the_rotation():
    angles = np.array([0.4, np.pi / 2, -1.1])
    matrix = pose.euler_to_matrix(angles)
    np.testing.assert_allclose(
        pose.euler_to_matrix(pose.matrix_to_euler(matrix)), matrix, atol=1e-9
    )


def test_states_of_flange_and_fingertips_agree_with_scipy_and_the_training_data():
    s = states()
    flange = torch.from_numpy(s)
    tcp = actions.convert_state(flange, "flange", "tcp")
    axis = Rotation.from_euler("xyz", s[:, 3:6]).apply([0.0, 0.0, 0.1034])
    np.testing.assert_allclose(tcp[:, :3].numpy(), s[:, :3] + axis, atol=1e-12)
    np.testing.assert_allclose(tcp.numpy(), states_of(s, "tcp").numpy(), atol=1e-12)
    np.testing.assert_allclose(tcp[:, :3].numpy(), pose.flange_to_tcp(s)[:, :3], atol=1e-12)
    back = actions.convert_state(tcp, "tcp", "flange")
    torch.testing.assert_close(back, flange, atol=1e-12, rtol=0)
    assert actions.convert_state(flange, "tcp", "tcp") is flange
