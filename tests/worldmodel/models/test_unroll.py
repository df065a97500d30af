"""The cached unroll equals recomputing the whole history."""

import pytest
import torch

from worldmodel.models.attention import attend
from worldmodel.models.config import EncoderConfig, PredictorConfig
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.kernels.shared_prefix_attention import attend_with_shared_prefix
from worldmodel.models.model_config import DynamicsConfig, ModelConfig
from worldmodel.models.world_model import WorldModel, normalise
from worldmodel.specs import ObservationSpec
from worldmodel.training.small_models import with_state_output


def make_world(side=2, *, rope="tiled", residual=False, conditioning="tokens"):
    torch.manual_seed(0)
    predictor = PredictorConfig(
        grid=(side, side),
        encoder_dim=32,
        embed_dim=48,
        depth=3,
        num_heads=2,
        num_frames=8,
        rope=rope,
        residual=residual,
        embed_init_std=0.3,
        conditioning=conditioning,
    )
    encoder = EncoderConfig(embed_dim=32, depth=0, num_heads=1)
    config = ModelConfig(encoder=encoder, predictor=predictor, observation=ObservationSpec())
    world = WorldModel.from_config(config).eval()
    if conditioning == "adaln":  # new blocks are the identity
        for block in world.predictor.predictor_blocks:
            torch.nn.init.normal_(block.modulation.weight, std=0.2)
    return world


def history(world, side, frames, batch):
    generator = torch.Generator().manual_seed(1)
    z = normalise(torch.randn(1, frames, side * side, 32, generator=generator))
    states = torch.randn(1, frames, 7, generator=generator) * 0.2
    before = torch.randn(1, frames - 1, 7, generator=generator) * 0.1
    actions = torch.randn(batch, 3, 7, generator=generator) * 0.1
    return z, states, before, actions


def whole(world, z, states, before, actions):
    """The published way: everything again for every imagined step."""
    batch = len(actions)
    frames, states = z.expand(batch, -1, -1, -1), states.expand(batch, -1, -1)
    taken, out = before.expand(batch, -1, -1), []
    for k in range(actions.shape[1]):
        taken = torch.cat([taken, actions[:, k : k + 1]], 1)
        frame = world.predict(frames, taken, states)[:, -1:]
        out.append(frame)
        frames = torch.cat([frames, frame], 1)
        states = torch.cat([states, world.next_state(states[:, -1], actions[:, k])[:, None]], 1)
    return torch.cat(out, 1)


@torch.no_grad()
@pytest.mark.parametrize("side", [1, 2, 9])
@pytest.mark.parametrize(
    ("rope", "residual", "conditioning"),
    [("tiled", False, "tokens"), ("interleaved", True, "tokens"), ("interleaved", True, "adaln")],
)
def test_with_the_present_frame_alone(side, rope, residual, conditioning):
    world = make_world(side, rope=rope, residual=residual, conditioning=conditioning)
    z, states, before, actions = history(world, side, 1, 5)
    want = whole(world, z, states, before, actions)
    found = world.unroll(z[:, -1], states[:, -1], actions)
    torch.testing.assert_close(found, want, atol=1e-4, rtol=0)
    own = world.unroll(z[:, -1].expand(5, -1, -1), states[:, -1].expand(5, -1), actions)
    torch.testing.assert_close(own, want, atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("conditioning", ["tokens", "adaln"])
@pytest.mark.parametrize("frames", [2, 3])
def test_with_frames_before_it_that_all_samples_share(frames, conditioning):
    world = make_world(2, conditioning=conditioning)
    z, states, before, actions = history(world, 2, frames, 5)
    past = world.remember(z[:, :-1], states[:, :-1], before)
    found = world.unroll(z[:, -1], states[:, -1], actions, past)
    want = whole(world, z, states, before, actions)
    torch.testing.assert_close(found, want, atol=1e-4, rtol=0)
    alone = world.unroll(z[:, -1], states[:, -1], actions)
    assert (alone - found).abs().max() > 1e-3  # the past is looked at
    assert all(len(k) == 1 for k, _ in past)


@pytest.mark.parametrize("conditioning", ["tokens", "adaln"])
def test_gradients_reach_the_actions(conditioning):
    world = make_world(2, conditioning=conditioning)
    z, states, _, actions = history(world, 2, 1, 4)
    actions.requires_grad_()
    world.unroll(z[:, -1], states[:, -1], actions).square().sum().backward()
    assert actions.grad.abs().sum() > 0


def test_adaptive_blocks_start_as_the_identity_and_hold_no_condition_tokens():
    tokens, adaptive = make_world(2), make_world(2, conditioning="adaln")
    for block in adaptive.predictor.predictor_blocks:
        torch.nn.init.zeros_(block.modulation.weight)
    z, states, _, actions = history(adaptive, 2, 1, 4)
    frame, action, state = z[:, 0].expand(4, -1, -1), actions[:, 0], states[:, 0].expand(4, -1)
    found = adaptive.predictor.step_with_state(frame, action, state)
    assert torch.equal(found.frame_BND[0], found.frame_BND[1])  # no action has an effect yet
    assert found.cache[0][0].shape[2] == 4
    assert tokens.predictor.step(frame, action, state)[1][0][0].shape[2] == 6


def test_a_state_output_leaves_the_frames_as_they_are():
    predictor = PredictorConfig(grid=(1, 2), encoder_dim=8, embed_dim=12, depth=2, num_heads=2)
    torch.manual_seed(0)
    plain = LatentDynamics(DynamicsConfig(predictor=predictor))
    found = with_state_output(plain)
    assert with_state_output(found) is found
    z, state, actions = torch.randn(3, 2, 8), torch.rand(3, 7), 0.1 * torch.randn(3, 4, 7)
    frames, states = found.unroll_with_states(z, state, actions)
    assert torch.equal(frames, plain.unroll(z, state, actions))
    assert states.shape == (3, 4, 7)
    assert plain.unroll_with_states(z, state, actions)[1] is None


def test_attention_to_a_shared_past():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 4, 2, 5, 8).unbind(0)
    past = torch.randn(1, 2, 7, 8), torch.randn(1, 2, 7, 8)
    keys, values = (
        torch.cat([p.expand(4, -1, -1, -1), x], 2) for p, x in zip(past, (k, v), strict=True)
    )
    want = attend(q, keys, values, None, "plain")
    torch.testing.assert_close(
        attend_with_shared_prefix(q, (k, v), past), want, atol=1e-6, rtol=1e-5
    )


def test_memory_of_a_sample_grows_with_the_horizon():
    world = make_world(2)
    sizes = [world.bytes_per_sample(horizon) for horizon in (1, 2, 3)]
    cache = 4 * 3 * 2 * 7 * 48
    assert sizes[1] - sizes[0] >= cache
    assert sizes[0] < sizes[1] < sizes[2]
