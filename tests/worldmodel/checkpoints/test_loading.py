"""Typed loaders: whatever holds a model is accepted, and a wrong kind says what it is."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import worldmodel
from worldmodel.checkpoint import load, load_encoder, load_probe, load_world_model, save
from worldmodel.checkpoints.io import kind_of
from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.models.config import EncoderConfig, PredictorConfig, ProbeConfig
from worldmodel.models.config_dict import to_dict
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.models.kernels.optimize import CpuLinear
from worldmodel.models.model_config import DynamicsConfig, ModelConfig, Scaling
from worldmodel.models.probe import AttentiveClassifier
from worldmodel.models.world_model import WorldModel
from worldmodel.specs import ActionSpec, ObservationSpec

GOLDEN = Path(__file__).parents[2] / "golden"
FRAMES = torch.arange(2 * 32 * 32 * 3).reshape(2, 32, 32, 3).remainder(256).to(torch.uint8)


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    size = (32, 32)
    config = ModelConfig(
        encoder=EncoderConfig(image_size=size, embed_dim=32, depth=1, num_heads=2, num_frames=2),
        predictor=PredictorConfig(
            grid=(2, 2), encoder_dim=32, embed_dim=24, depth=1, num_heads=2, num_frames=4
        ),
        observation=ObservationSpec(image_size=size, state_frame="tcp", cameras=("wrist",)),
        action=ActionSpec(period_s=0.2, max_step_m=0.05),
        scaling=Scaling(state_scale=(2.0,) * 7),
    )
    return WorldModel.from_config(config).eval()


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    """A finished training run: its model, its summary and a checkpoint of the first layout."""
    folder = tmp_path_factory.mktemp("run")
    save(folder / "model.safetensors", world)
    summary = {"model": to_dict(world.config)}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (folder / "checkpoints").mkdir()
    weights = {f"world.encoder.{k}": v for k, v in world.encoder.backbone.state_dict().items()}
    weights |= {f"world.predictor.{k}": v for k, v in world.predictor.state_dict().items()}
    weights["inverse_head.0.weight"] = torch.zeros(2, 2)
    state = {"model": weights, "optimizer": {}, "step": 3}
    torch.save(state, folder / "checkpoints" / "step-00000003.pt")
    return folder


@pytest.mark.parametrize("place", ["", "model.safetensors", "checkpoints/step-00000003.pt"])
def test_a_run_s_folder_file_and_checkpoint_hold_the_model(run, world, place):
    found = load_world_model(run / place, "cpu")
    assert found.config == world.config
    assert found.observation_spec.state_frame == "tcp"
    assert found.action_spec == ActionSpec(period_s=0.2, max_step_m=0.05)
    z, actions = found.encode(FRAMES), torch.ones(2, 2, 7) / 20
    torch.testing.assert_close(z, world.encode(FRAMES), atol=1e-5, rtol=0)
    want = world.unroll(z, torch.ones(1, 7), actions)
    torch.testing.assert_close(found.unroll(z, torch.ones(1, 7), actions), want, atol=1e-5, rtol=0)
    encoder = load_encoder(run / place, "cpu")
    assert torch.equal(encoder.encode(FRAMES), z)


def test_loaders_on_a_cpu_give_the_fast_layers(run):
    assert isinstance(load(run, "cpu").predictor.predictor_embed, CpuLinear)
    assert not isinstance(load(run, "meta").predictor.predictor_embed, CpuLinear)


def test_a_wrong_kind_says_what_the_file_is(run, world, tmp_path):
    torch.manual_seed(0)
    save(tmp_path / "probe.safetensors", AttentiveClassifier(ProbeConfig(embed_dim=32, depth=2)))
    save(tmp_path / "encoder.safetensors", world.encoder)
    save(tmp_path / "dynamics.safetensors", world.dynamics)
    with pytest.raises(CheckpointError, match=r"is a probe.*load_probe"):
        load_world_model(tmp_path / "probe.safetensors", "cpu")
    with pytest.raises(CheckpointError, match="is a probe"):
        worldmodel.load_encoder(tmp_path / "probe.safetensors", "cpu")
    with pytest.raises(CheckpointError, match=r"cannot imagine.*mode=post"):
        worldmodel.load(tmp_path / "encoder.safetensors", "cpu")
    with pytest.raises(CheckpointError, match="is a world model"):
        worldmodel.load_probe(run, "cpu")
    with pytest.raises(CheckpointError, match="without its encoder"):
        load_world_model(tmp_path / "dynamics.safetensors", "cpu")
    assert load_probe(tmp_path / "probe.safetensors", "cpu").config.num_classes == 174
    assert [kind_of(m) for m in (world, world.encoder, world.dynamics)] == [
        "world_model",
        "video_model",
        "latent_dynamics",
    ]


def test_folders_without_a_model_say_why(tmp_path):
    with pytest.raises(CheckpointError, match="holds no model"):
        load(tmp_path, "cpu")
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="has not ended"):
        load(tmp_path, "cpu")
    with pytest.raises(CheckpointError, match=f"load the run's folder, {tmp_path}"):
        load(tmp_path / "checkpoints" / "step-00000001", "cpu")
    torch.save({"model": {}, "optimizer": {}}, tmp_path / "step-00000001.pt")
    with pytest.raises(CheckpointError, match=r"no summary\.json"):
        load(tmp_path / "step-00000001.pt", "cpu")
    (tmp_path / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "page.pt").write_text("<!doctype html>")
    (tmp_path / "short.safetensors").write_bytes(b"\x08\0\0")
    for name, why in (("pointer", "git lfs pull"), ("page", "web page"), ("short", "damaged")):
        with pytest.raises(CheckpointError, match=why):
            load(next(tmp_path.glob(f"{name}.*")), "cpu")
    with pytest.raises(CheckpointError, match="neither a file or folder"):
        load(tmp_path / "nothing.safetensors", "cpu")
    with pytest.raises(ConfigError, match="empty"):
        load_encoder("")
    with pytest.raises(ConfigError, match="vit_base"):
        load_encoder("random:vit_enormous")


def test_published_torch_files_are_loaded_as_they_are(monkeypatch):
    from worldmodel.checkpoints.published import sizes

    monkeypatch.setitem(sizes.ENCODER_HEADS, (64, 3), 2)
    monkeypatch.setitem(sizes.AC_HEADS, (96, 2), 2)
    monkeypatch.setitem(sizes.PROBE_HEADS, 64, 2)
    encoder = load_encoder(GOLDEN / "vjepa2_pretrain_layout.pt", "cpu")
    assert isinstance(encoder, VideoEncoder)
    assert encoder.observation_spec.transform == "published"
    with pytest.raises(CheckpointError, match="cannot imagine"):
        load(GOLDEN / "vjepa2_pretrain_layout.pt", "cpu")
    assert load_probe(GOLDEN / "probe_layout.pt", "cpu").config.num_classes == 5
    with pytest.raises(CheckpointError, match="is a probe"):
        load(GOLDEN / "probe_layout.pt", "cpu")


def test_precision(run):
    world = load_world_model(run, "cpu", "bfloat16")
    assert {world.encoder.dtype, world.dynamics.dtype} == {torch.bfloat16}
    exact = load_world_model(run, "cpu")
    z = world.encode(FRAMES)
    assert z.dtype == torch.float32
    out = world.unroll(z, torch.ones(1, 7), torch.ones(2, 2, 7) / 20)
    want = exact.unroll(exact.encode(FRAMES), torch.ones(1, 7), torch.ones(2, 2, 7) / 20)
    assert out.dtype == torch.float32
    assert (out - want).norm() / want.norm() < 0.05
    with pytest.raises(ConfigError, match="float32"):
        load_world_model(run, "cpu", "int8")


def test_what_does_not_belong_together_is_refused(world):
    predictor = dataclasses.replace(world.config.predictor, encoder_dim=48)
    with pytest.raises(ConfigError, match="wide"):
        WorldModel(world.encoder, LatentDynamics(DynamicsConfig(predictor=predictor)))
