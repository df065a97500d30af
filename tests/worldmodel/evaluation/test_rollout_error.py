"""The measures on dynamics that are known: each step moves the latent by the action."""

import pytest
import torch

from worldmodel.evaluation.rollout_error import offline_action_error, rollout_errors


class Moves:
    """Latents are positions [m]; `gain` times the action is added, and the pose shifts them."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def unroll(self, z_BND, state_BS, actions_BKA, past=None, *, extrinsics_B6=None):
        moves = self.gain * actions_BKA[..., :3].cumsum(1)
        if extrinsics_B6 is not None:
            moves = moves + extrinsics_B6[:, None, :3]
        return z_BND[:, None] + moves[:, :, None]


@pytest.fixture
def clips():
    generator = torch.Generator().manual_seed(0)
    actions = torch.zeros(6, 4, 7)
    actions[..., :3] = 0.04 * (2 * torch.rand(6, 4, 3, generator=generator) - 1)
    start = torch.rand(6, 1, 1, 3, generator=generator)
    steps = torch.cat([torch.zeros(6, 1, 3), actions[..., :3].cumsum(1)], 1)
    return start + steps[:, :, None], torch.zeros(6, 5, 7), actions


def test_true_dynamics_have_no_error_at_any_step_and_listen_to_actions(clips):
    row = rollout_errors(Moves(), *clips)
    assert max(row[f"val_step_{k}"] for k in (1, 2, 3, 4)) < 1e-6
    assert row["val_shuffled"] > 0.01
    assert row["val_sensitivity"] > 100


def test_errors_grow_by_step_when_the_model_ignores_actions(clips):
    row = rollout_errors(Moves(0.0), *clips)
    assert row["val_sensitivity"] == pytest.approx(1.0)
    assert row["val_step_4"] > row["val_step_1"] > 0
    assert row["val_true"] == pytest.approx(row["val_copy"])


def test_errors_by_step_have_those_of_wrong_actions_and_of_a_copy_beside_them(clips):
    row = rollout_errors(Moves(), *clips)
    for k in (1, 2, 3, 4):
        assert row[f"val_shuffled_step_{k}"] > 100 * row[f"val_step_{k}"]
    means = sum(row[f"val_copy_step_{k}"] for k in (1, 2, 3, 4)) / 4
    assert means == pytest.approx(row["val_copy"])


class Turns(Moves):
    """Latents are positions and angles [m, rad]."""

    def unroll(self, z_BND, state_BS, actions_BKA, past=None, *, extrinsics_B6=None):
        return z_BND[:, None] + self.gain * actions_BKA[..., :6].cumsum(1)[:, :, None]


def test_planned_turns_are_compared_by_axis():
    actions = torch.zeros(3, 1, 7)
    actions[:, 0, :3] = torch.tensor([0.03, -0.02, 0.0])
    actions[:, 0, 3:6] = torch.tensor([0.0, 0.05, -0.1])
    z = torch.stack([torch.zeros(3, 1, 6), actions[:, :, :6]], 1)
    row = offline_action_error(Turns(), z, torch.zeros(3, 2, 7), actions)
    assert row["val_action_zero_rad"] == pytest.approx((0.05**2 + 0.1**2) ** 0.5)
    assert row["val_action_error_rad"] < 0.2 * row["val_action_zero_rad"]
    assert row["val_action_zero_yaw_rad"] == pytest.approx(0.1)
    assert row["val_action_error_yaw_rad"] < 0.02
    assert row["val_action_zero_x_m"] == pytest.approx(0.03)
    assert row["val_action_error_x_m"] < 0.01
    assert row["val_action_zero_z_m"] == 0


def test_planner_finds_the_recorded_move_and_not_without_dynamics(clips):
    good, bad = offline_action_error(Moves(), *clips), offline_action_error(Moves(0.0), *clips)
    assert good["val_action_error_m"] < 0.1 * good["val_action_zero_m"]
    assert bad["val_action_error_m"] > 0.5 * bad["val_action_zero_m"]
    poses = torch.full((6, 5, 6), 0.01)
    off = offline_action_error(Moves(), *clips, poses)
    assert off["val_action_error_m"] == pytest.approx(0.01 * 3**0.5, abs=0.005)
