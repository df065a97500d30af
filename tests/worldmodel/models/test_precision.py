"""Weights in bfloat16 on this CPU: every network runs, near its float32 self, and says float32."""

import copy

import pytest
import torch

from worldmodel import load_world_model
from worldmodel.checkpoints.loading import place
from worldmodel.errors import ConfigError
from worldmodel.models.config import (
    EncoderConfig,
    MaskedPredictorConfig,
    ObjectHeadConfig,
    PredictorConfig,
    ProbeConfig,
)
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.models.masked_predictor import MaskedPredictor
from worldmodel.models.model_config import ModelConfig
from worldmodel.models.object_head import ObjectHead
from worldmodel.models.precision import allow_tf32, autocast, resolve_precision
from worldmodel.models.probe import AttentiveClassifier
from worldmodel.models.world_model import WorldModel
from worldmodel.perception.surprise.measure import normalise_pixels
from worldmodel.specs import ObservationSpec

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
SMALL = {"image_size": (32, 32), "embed_dim": 48, "depth": 2, "num_heads": 2, "num_frames": 4}
POSITIONS = {
    "vjepa2": {},
    "vjepa1": {"position": "sincos"},
    "vjepa21": {"modality_embedding": True, "norm_blocks": (0, 1), "interpolate_rope": True},
    "conv": {"tubelet_size": 1, "stem": "conv", "stem_channels": (8, 16), "patch_size": 16},
}


def near(found, wanted):
    """Within 3e-2 of what float32 gives, and in float32."""
    assert found.dtype == torch.float32
    assert wanted.dtype == torch.float32
    assert (found - wanted).norm() < 3e-2 * wanted.norm()
    assert not torch.equal(found, wanted)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(*shape):
    return torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=seeded())


def small_world(**predictor):
    torch.manual_seed(0)
    sizes = {"grid": (2, 2), "encoder_dim": 48, "embed_dim": 32, "depth": 2, "num_heads": 2}
    config = ModelConfig(
        encoder=EncoderConfig(**SMALL),
        predictor=PredictorConfig(**sizes, num_frames=8, **predictor),
        observation=ObservationSpec(image_size=(32, 32)),
        object_head=ObjectHeadConfig(num_tokens=4, token_dim=48),
    )
    return WorldModel.from_config(config).eval().requires_grad_(False)


@pytest.fixture(params=["default", "one_goal", "published", "extrinsics"])
def world(request):
    if request.param == "published":
        return small_world()
    if request.param == "extrinsics":
        return small_world(use_extrinsics=True, has_extrinsics_encoder=True)
    return load_world_model(request.param, "cpu")


@torch.no_grad()
def test_a_world_model_in_bfloat16_encodes_and_imagines(world):
    low = copy.deepcopy(world).bfloat16()
    assert {low.encoder.dtype, low.dynamics.dtype} == {torch.bfloat16}
    frames, state = images(3, *world.image_size), torch.full((1, 7), 0.3)
    actions = 0.05 * torch.randn(4, 3, 7, generator=seeded())
    more = {}
    if world.config.predictor.use_extrinsics:
        more = {"extrinsics_B6": torch.full((1, 6), 0.5)}
    z = world.encode(frames)
    near(low.encode(frames), z)
    near(low.unroll(z[:1], state, actions, **more), world.unroll(z[:1], state, actions, **more))
    given = z[None], actions[:1], state.expand(3, -1)[None]
    poses = more["extrinsics_B6"].expand(1, 3, -1) if more else None
    near(low.predict(*given, poses), world.predict(*given, poses))
    if not more:
        past = [
            w.remember(z[None, :2], state.expand(2, -1)[None], actions[:1]) for w in (low, world)
        ]
        assert past[0][0][0].dtype == torch.bfloat16
        now = z[2:], state, actions
        near(low.unroll(*now, past[0]), world.unroll(*now, past[1]))


@torch.no_grad()
def test_what_is_measured_in_metres_and_pixels_stays_float32():
    world = small_world()
    for low in (
        copy.deepcopy(world).bfloat16(),
        copy.deepcopy(world).half(),
        place(small_world(), "cpu", "bfloat16"),
    ):
        assert {b.dtype for b in low.buffers()} == {torch.float32}
        assert {p.dtype for p in low.object_head.parameters()} == {torch.float32}
        assert {p.dtype for p in low.predictor.parameters()} <= {torch.bfloat16, torch.half}
        z = torch.randn(2, 4, 48, generator=seeded())
        assert torch.equal(low.locate(z).position_m, world.locate(z).position_m)
        state, action = torch.full((1, 7), 0.3), torch.full((1, 7), 0.01)
        assert torch.equal(low.next_state(state, action), world.next_state(state, action))
    assert copy.deepcopy(world).to("meta").encoder.pixel_mean.device.type == "meta"


@torch.no_grad()
@pytest.mark.parametrize("kind", POSITIONS)
def test_encoders_take_clips_and_frames_of_other_sizes(kind):
    torch.manual_seed(0)
    exact = VideoEncoder.of(VisionTransformer(EncoderConfig(**(SMALL | POSITIONS[kind]))))
    low = copy.deepcopy(exact).bfloat16()
    near(low.encode(images(2, 32, 32)), exact.encode(images(2, 32, 32)))
    clip = images(1, 4, 32, 48) if kind != "conv" else images(1, 4, 32, 32)
    near(low.encode_clip(clip), exact.encode_clip(clip))


@torch.no_grad()
@pytest.mark.parametrize("position", ["rope", "sincos"])
def test_the_masked_predictor_and_the_probe_take_float32_tokens(position):
    torch.manual_seed(0)
    sizes = {"encoder_dim": 48, "out_dim": 48, "embed_dim": 24, "depth": 2, "num_heads": 2}
    exact = MaskedPredictor(
        MaskedPredictorConfig(grid=(2, 2, 2), num_mask_tokens=2, position=position, **sizes)
    )
    tokens, ids = torch.randn(2, 5, 48, generator=seeded()), torch.arange(8).expand(2, -1)
    given = tokens, ids[:, :5], ids[:, 5:]
    near(copy.deepcopy(exact).bfloat16()(*given).float(), exact(*given))
    probe = AttentiveClassifier(ProbeConfig(embed_dim=48, num_heads=2, depth=2, num_classes=5))
    near(copy.deepcopy(probe).bfloat16()(tokens).float(), probe(tokens))


def test_pixels_are_normalised_in_float32():
    clip = images(1, 4, 8, 8).permute(0, 4, 1, 2, 3)
    exact = normalise_pixels(clip, torch.zeros(1))
    low = normalise_pixels(clip, torch.zeros(1, dtype=torch.bfloat16))
    assert torch.equal(low, exact.bfloat16())


def test_one_place_decides(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", lambda _: torch.inference_mode())
    for native in (True, False):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation, native=native: native
        )
        auto = torch.bfloat16 if native else torch.float32
        assert resolve_precision("auto", CUDA) == auto
        assert resolve_precision("auto", CPU) == torch.float32
        for device in (CUDA, CPU):
            assert resolve_precision("float32", device) == torch.float32
            assert resolve_precision("bfloat16", device) == torch.bfloat16
    with pytest.raises(ConfigError, match="auto, float32, bfloat16"):
        resolve_precision("int8", CPU)


def test_tf32_is_for_cuda_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    place(small_world(), "cpu", "bfloat16")
    allow_tf32(CPU)
    assert not asked
    allow_tf32(CUDA)
    assert asked == ["high"]


def test_autocast_is_for_float32_weights():
    for weights, bf16 in ((torch.float32, True), (torch.bfloat16, True), (torch.float32, False)):
        with autocast(CPU, bf16=bf16, weights=weights):
            found = torch.ones(2, 2) @ torch.ones(2, 2)
        on = bf16 and weights == torch.float32
        assert found.dtype == (torch.bfloat16 if on else torch.float32)


def test_an_object_head_moves_with_its_world():
    head = ObjectHead(ObjectHeadConfig(num_tokens=4, token_dim=48))
    assert next(head.to("meta", torch.bfloat16).parameters()).device.type == "meta"
