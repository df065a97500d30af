"""Free rollouts are what the planner imagines, and long ones restart from the last frame."""

import pytest
import torch

from worldmodel.errors import ConfigError
from worldmodel.models.config import PredictorConfig
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.model_config import DynamicsConfig
from worldmodel.training.loss_options import MemoryRolloutConfig
from worldmodel.training.rollouts import free_rollout, free_rollout_with_states
from worldmodel.training.small_models import with_state_output


def make(num_frames=6):
    torch.manual_seed(0)
    predictor = PredictorConfig(
        grid=(1, 2), encoder_dim=8, embed_dim=12, depth=2, num_heads=2, num_frames=num_frames
    )
    dynamics = LatentDynamics(DynamicsConfig(predictor=predictor))
    return dynamics, torch.randn(3, 2, 8), torch.rand(3, 7), 0.1 * torch.randn(3, 6, 7)


def test_equals_the_planners_unroll():
    dynamics, z, state, actions = make()
    found = free_rollout(dynamics, z, state, actions)
    assert torch.allclose(found, dynamics.unroll(z, state, actions), atol=1e-6)


def test_gradients_reach_the_first_frame_through_all_steps():
    dynamics, z, state, actions = make()
    z.requires_grad_()
    free_rollout(dynamics, z, state, actions)[:, -1].square().sum().backward()
    assert z.grad.abs().sum() > 0
    assert all(p.grad is not None for n, p in dynamics.named_parameters() if "extrinsics" not in n)


def test_restarts_from_the_last_frame_where_the_predictor_ends():
    dynamics, z, state, actions = make(num_frames=4)
    found = free_rollout(dynamics, z, state, actions)
    first = dynamics.unroll(z, state, actions[:, :4])
    for action in actions[:, :4].unbind(1):
        state = dynamics.next_state(state, action)
    then = dynamics.unroll(first[:, -1], state, actions[:, 4:])
    assert torch.allclose(found, torch.cat([first, then], 1), atol=1e-6)


def test_a_random_restart_changes_the_later_steps_alone():
    dynamics, z, state, actions = make()
    whole = free_rollout(dynamics, z, state, actions)
    torch.manual_seed(1)
    cut = free_rollout(dynamics, z, state, actions, restart=1.0)
    same = [torch.allclose(cut[:, k], whole[:, k], atol=1e-6) for k in range(6)]
    at = same.index(False)
    assert at >= 1
    assert not any(same[at:])


def test_states_continue_over_a_restart():
    dynamics, z, state, actions = make(num_frames=4)
    dynamics = with_state_output(dynamics)
    frames, states = free_rollout_with_states(dynamics, z, state, actions)
    assert states.shape == (3, 6, 7)
    assert torch.equal(frames, free_rollout(dynamics, z, state, actions))


def test_options_without_effect_are_rejected():
    with pytest.raises(ConfigError, match=r"predict_state=0\.5 has no effect"):
        MemoryRolloutConfig(predict_state=0.5)
    with pytest.raises(ConfigError, match=r"rollout_restart=0\.5 has no effect"):
        MemoryRolloutConfig(rollout_restart=0.5)
    with pytest.raises(ConfigError, match="teacher_forcing=0 needs rollout_kind=free"):
        MemoryRolloutConfig(teacher_forcing=0.0)
