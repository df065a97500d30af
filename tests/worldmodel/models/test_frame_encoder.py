"""The one image transform: a picture gives the same latents whatever way it takes."""

import numpy as np
import pytest
import torch

from worldmodel.checkpoint import load_world_model
from worldmodel.data.transforms import Preprocess
from worldmodel.errors import ShapeError
from worldmodel.models.config import PredictorConfig
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.encoder import VisionTransformer, preset
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.models.model_config import DynamicsConfig
from worldmodel.specs import ActionSpec

SHAPES = [(512, 512), (480, 640), (256, 256), (640, 480), (128, 128), (96, 200)]


@pytest.fixture(scope="module")
def world():
    return load_world_model("default", "cpu")


@pytest.mark.parametrize("shape", SHAPES)
def test_one_picture_has_one_latent(world, shape):
    picture = np.random.default_rng(0).integers(256, size=(*shape, 3), dtype=np.uint8)
    one = world.preprocess(picture)
    assert one.shape == (128, 128, 3)
    assert one.dtype == torch.uint8
    want = world.encode(one[None])
    spec = world.observation_spec
    by_data = Preprocess(spec.transform, spec.image_size)(torch.from_numpy(picture))
    many = world.preprocess(np.stack([picture, picture[::-1]]))
    assert torch.equal(world.encode(by_data[None]), want)
    assert torch.equal(many[0], one)
    assert torch.equal(world.encode(many[:1]), want)
    assert torch.equal(world.encoder.encode(world.encoder.preprocess(one)[None]), want)


def test_frames_of_another_size_are_refused_with_the_way_out(world):
    with pytest.raises(ShapeError, match="preprocess"):
        world.encode(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    with pytest.raises(ShapeError, match="uint8"):
        world.encode(torch.zeros(1, 128, 128, 3))
    with pytest.raises(ShapeError, match="batch"):
        world.encode(torch.zeros(128, 128, 3, dtype=torch.uint8))


def test_bfloat16_weights_agree():
    torch.manual_seed(0)
    backbone = VisionTransformer(preset("vit_tiny", depth=2, image_size=(64, 64), num_frames=2))
    encoder = VideoEncoder.of(backbone)
    frames = torch.randint(256, (2, 64, 64, 3), dtype=torch.uint8)
    want = encoder.encode(frames)
    backbone.to(torch.bfloat16)
    found = encoder.encode(frames)
    assert found.dtype == torch.float32
    assert (found - want).norm() / want.norm() < 0.05


@pytest.mark.parametrize(("state_dim", "action_dim", "use_state"), [(2, 2, True), (5, 3, False)])
def test_other_sizes_of_state_and_action(state_dim, action_dim, use_state):
    predictor = PredictorConfig(
        grid=(2, 2),
        encoder_dim=16,
        embed_dim=24,
        depth=1,
        num_heads=2,
        num_frames=4,
        state_dim=state_dim,
        action_dim=action_dim,
        use_state=use_state,
    )
    action = ActionSpec(action_dim=action_dim)
    dynamics = LatentDynamics(DynamicsConfig(predictor=predictor, action=action)).eval()
    actions = torch.ones(3, 2, action_dim)
    out = dynamics.unroll(torch.randn(1, 4, 16), torch.zeros(1, state_dim), actions)
    assert out.shape == (3, 2, 4, 16)
    after = dynamics.next_state(torch.zeros(1, state_dim), actions[:, 0])
    assert torch.equal(after, torch.full((3, state_dim), float(use_state)))
