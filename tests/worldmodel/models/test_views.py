"""Several views: their tokens lie one behind the other, and one view is what it was before."""

import dataclasses

import pytest
import torch

from worldmodel import load_world_model
from worldmodel.checkpoints.io import save
from worldmodel.errors import ConfigError, ShapeError
from worldmodel.models.ac_predictor import ActionConditionedPredictor
from worldmodel.models.config import EncoderConfig, ObjectHeadConfig, PredictorConfig
from worldmodel.models.model_config import ModelConfig
from worldmodel.models.world_model import WorldModel
from worldmodel.specs import ObservationSpec

GRID, VIEWS = (2, 2), ("left", "wrist")


def predictor(views, **changes):
    torch.manual_seed(0)
    config = PredictorConfig(
        grid=GRID, encoder_dim=6, embed_dim=12, depth=2, num_heads=2, num_frames=4, num_views=views
    )
    return ActionConditionedPredictor(dataclasses.replace(config, **changes)).eval()


def inputs(views, batch=2, frames=3):
    torch.manual_seed(1)
    tokens = torch.randn(batch, frames * views * 4, 6)
    return tokens, torch.randn(batch, frames, 7), torch.randn(batch, frames, 7)


def two_views(**changes):
    torch.manual_seed(0)
    encoder = EncoderConfig(
        image_size=(32, 32), num_frames=1, patch_size=16, tubelet_size=1, embed_dim=6, depth=1,
        num_heads=1,
    )  # fmt: skip
    observation = ObservationSpec(image_size=(32, 32), cameras=VIEWS, frames_per_token=1)
    config = ModelConfig(
        encoder=encoder,
        predictor=predictor(2).config,
        observation=observation,
        object_head=ObjectHeadConfig(token_dim=6, num_tokens=8),
    )
    return WorldModel.from_config(dataclasses.replace(config, **changes)).eval()


def frames(count=3, views=2):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, views, 32, 32, 3), generator=generator).to(torch.uint8)


def test_a_predictor_of_one_view_has_the_weights_it_had():
    one = predictor(1)
    assert not any("view" in name for name in one.state_dict())
    two = predictor(2)
    drawn_first = {k: v for k, v in two.state_dict().items() if k != "view_embed"}
    assert all(torch.equal(value, one.state_dict()[name]) for name, value in drawn_first.items())


@pytest.mark.parametrize("conditioning", ["tokens", "adaln"])
def test_steps_with_a_cache_equal_the_whole_clip(conditioning):
    model = predictor(2, conditioning=conditioning, residual=True)
    tokens, actions, states = inputs(2)
    whole = model(tokens, actions, states).unflatten(1, (3, -1))
    cache = None
    for t in range(3):
        frame = tokens.unflatten(1, (3, -1))[:, t]
        found, cache = model.step(frame, actions[:, t], states[:, t], cache)
        torch.testing.assert_close(found, whole[:, t], rtol=1e-4, atol=1e-5)


def test_views_with_their_embeddings_may_change_places():
    model = predictor(2)
    tokens, actions, states = inputs(2)
    found = model(tokens, actions, states)
    with torch.no_grad():
        model.view_embed.copy_(model.view_embed.flip(0))
    swapped = tokens.unflatten(1, (3, 2, 4)).flip(2).flatten(1, 3)
    again = model(swapped, actions, states).unflatten(1, (3, 2, 4)).flip(2).flatten(1, 3)
    torch.testing.assert_close(found, again, rtol=1e-4, atol=1e-5)


def test_views_see_each_other_and_only_their_embedding_tells_them_apart():
    model = predictor(2)
    tokens, actions, states = inputs(2, frames=1)
    first = model(tokens, actions, states)[:, :4]
    changed = tokens.clone()
    changed[:, 4:] += 1
    assert not torch.allclose(model(changed, actions, states)[:, :4], first)
    same = torch.cat([tokens[:, :4]] * 2, 1)
    left, wrist = model(same, actions, states).split(4, 1)
    assert not torch.allclose(left, wrist)
    with torch.no_grad():
        model.view_embed.zero_()
    left, wrist = model(same, actions, states).split(4, 1)
    torch.testing.assert_close(left, wrist)


def test_tokens_of_a_view_depend_on_no_other_view_and_goals_need_the_main_one_alone():
    world, seen = two_views(), frames()
    z = world.encode(seen)
    assert z.shape == (3, 8, 6)
    torch.testing.assert_close(world.encode_main(seen[:, 0]), z[:, :4])
    torch.testing.assert_close(
        world.encode(seen.flip(1)), z.unflatten(1, (2, 4)).flip(1).flatten(1, 2)
    )
    zeros = torch.cat([z[:, :4], torch.zeros(3, 4, 6)], 1)
    torch.testing.assert_close(world.locate(z[:, :4]).position_m, world.locate(zeros).position_m)
    with pytest.raises(ShapeError, match=r"left, wrist: use \[B, 2, H, W, 3\]"):
        world.encode(seen[:, 0])
    with pytest.raises(ShapeError, match="left, wrist"):
        world.encode(seen[:, [0, 0, 1]])


def test_views_are_saved_with_the_model(tmp_path):
    world, seen = two_views(), frames()
    save(tmp_path / "two.safetensors", world)
    again = load_world_model(tmp_path / "two.safetensors", "cpu")
    assert (again.observation_spec.cameras, again.num_views) == (VIEWS, 2)
    z, state, actions = again.encode(seen), torch.zeros(3, 7), torch.zeros(3, 2, 7)
    torch.testing.assert_close(z, world.encode(seen), rtol=1e-4, atol=1e-5)
    expected = world.unroll(z, state, actions)
    torch.testing.assert_close(again.unroll(z, state, actions), expected, rtol=1e-4, atol=1e-4)
    one, two = (predictor(n).config.num_tokens for n in (1, 2))
    assert two == 2 * one
    assert again.bytes_per_sample(4) > 1.5 * two_views_of_one().bytes_per_sample(4)


def two_views_of_one():
    observation = ObservationSpec(image_size=(32, 32), frames_per_token=1)
    head = ObjectHeadConfig(token_dim=6, num_tokens=4)
    return two_views(predictor=predictor(1).config, observation=observation, object_head=head)


def test_cameras_and_views_of_a_model_must_agree():
    with pytest.raises(ConfigError, match="name one camera for each view"):
        two_views(predictor=predictor(1).config, object_head=None)
    with pytest.raises(ConfigError, match="different names"):
        ObservationSpec(cameras=("left", "left"))
