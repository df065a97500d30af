"""DINOv2 and VideoMAE backbones as frame encoders: random weights, saved to a folder and loaded."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from worldmodel.checkpoint import load_encoder, load_world_model, save
from worldmodel.checkpoints.container import load_tensors, read_description, save_safetensors
from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.evaluation.rollout_error import offline_action_error
from worldmodel.models.config import PredictorConfig
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.frame_encoder import normalise
from worldmodel.models.model_config import DynamicsConfig
from worldmodel.models.world_model import WorldModel
from worldmodel.training.objective import Objective, ObjectiveConfig

transformers = pytest.importorskip("transformers")

TINY = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.2,
    "num_channels": 3,
}
PROCESSORS = {
    "dinov2": {
        "size": {"shortest_edge": 32},
        "crop_size": {"height": 28, "width": 28},
        "do_center_crop": True,
        "image_mean": [0.4, 0.5, 0.6],
        "image_std": [0.2, 0.3, 0.4],
    },
    "videomae": {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}},
}


@pytest.fixture(scope="module", params=["dinov2", "videomae"])
def theirs(request, tmp_path_factory):
    torch.manual_seed(0)
    if request.param == "dinov2":
        config = transformers.Dinov2Config(**TINY, image_size=56, patch_size=14)
        model = transformers.Dinov2Model(config)
    else:
        config = transformers.VideoMAEConfig(
            **TINY, image_size=32, patch_size=16, num_frames=8, use_mean_pooling=False
        )
        model = transformers.VideoMAEModel(config)
    folder = tmp_path_factory.mktemp(request.param)
    model.eval().save_pretrained(folder)
    processor = json.dumps(PROCESSORS[request.param])
    (folder / "preprocessor_config.json").write_text(processor, encoding="utf-8")
    return folder, model


@torch.no_grad()
def test_tokens_and_specs_are_the_backbone_s(theirs):
    folder, model = theirs
    encoder = load_encoder(f"hf:{folder}", "cpu")
    assert torch.equal(
        load_encoder(folder, "cpu").encode(
            torch.zeros(1, *encoder.image_size, 3, dtype=torch.uint8)
        ),
        encoder.encode(torch.zeros(1, *encoder.image_size, 3, dtype=torch.uint8)),
    )
    spec = encoder.observation_spec
    picture = np.random.default_rng(0).integers(256, size=(2, 48, 64, 3), dtype=np.uint8)
    frames = encoder.preprocess(picture)
    rows, columns = encoder.token_grid
    tokens = encoder.encode(frames)
    assert tokens.shape == (2, rows * columns, 48)
    if "dinov2" in str(type(model)):
        assert (spec.image_size, spec.transform) == ((28, 28), "published")
        assert spec.pixel_mean == (0.4, 0.5, 0.6)
        want = model(encoder.pixels(frames)).last_hidden_state[:, 1:]
        torch.testing.assert_close(tokens, normalise(want), atol=1e-5, rtol=0)
        torch.testing.assert_close(encoder.encode_clip(frames[None]), want.flatten(0, 1)[None])
        return
    assert (spec.image_size, spec.transform) == ((32, 32), "center_crop")
    assert spec.frames_per_token == 2
    clip = frames[:1].expand(8, -1, -1, -1)[None]
    pixels = encoder.pixels(clip[0])[None]
    want = model(pixels).last_hidden_state
    torch.testing.assert_close(encoder.encode_clip(clip), want, atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="too long"):
        encoder.encode_clip(clip.repeat(1, 2, 1, 1, 1))


def test_post_training_and_planning_on_a_backbone(theirs, tmp_path):
    folder, _ = theirs
    encoder = load_encoder(f"hf:{folder}", "cpu")
    predictor = PredictorConfig(
        grid=encoder.token_grid,
        encoder_dim=encoder.embed_dim,
        embed_dim=24,
        depth=1,
        num_heads=2,
        num_frames=4,
    )
    dynamics = LatentDynamics(DynamicsConfig(predictor=predictor))
    frames = encoder.preprocess(torch.randint(256, (2, 3, 40, 40, 3), dtype=torch.uint8))
    z = encoder.encode(frames.flatten(0, 1)).unflatten(0, (2, 3))
    batch = {"features": z, "states": torch.zeros(2, 3, 7), "actions": torch.zeros(2, 2, 7)}
    objective = Objective(dynamics, ObjectiveConfig())
    objective(batch)["loss"].backward()
    assert all(p.grad is not None for p in dynamics.predictor.predictor_blocks.parameters())
    assert all(p.grad is None for p in encoder.parameters())

    save(tmp_path / "model.safetensors", WorldModel(encoder, dynamics))
    again = load_world_model(tmp_path, "cpu")  # without the backbone's own folder
    assert again.observation_spec == encoder.observation_spec
    torch.testing.assert_close(again.encode(frames[0]), z[0], atol=1e-5, rtol=0)
    found = offline_action_error(
        again, z, batch["states"], batch["actions"], samples=8, iterations=1, elites=2
    )
    assert found["val_action_error_m"] >= 0


def test_what_is_no_supported_backbone_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"No backbone.*hub name"):
        load_encoder(f"hf:{tmp_path}", "cpu")
    transformers.ViTModel(
        transformers.ViTConfig(**TINY, image_size=32, patch_size=16, intermediate_size=48)
    ).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"is a vit.*dinov2"):
        load_encoder(f"hf:{tmp_path}", "cpu")


ODD = {
    "kernels of the hub": {"_attn_implementation": "someone/kernel"},
    "code": {"auto_map": {"AutoModel": "evil.Evil"}, "quantization_config": 5, "dtype": "evil"},
    "layers": {"num_hidden_layers": 10**9},
    "fewer layers": {"num_hidden_layers": 1},
    "more layers": {"num_hidden_layers": 3},
    "width": {"hidden_size": 2**16},
    "patch": {"patch_size": 0},
    "activation": {"hidden_act": "evil.Evil"},
    "types": {"hidden_size": "48", "image_size": [28]},
    "kind": {"model_type": ["dinov2"]},
}
IGNORED = ("kernels of the hub", "code")


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dinov2")
    config = transformers.Dinov2Config(**TINY, image_size=28, patch_size=14)
    transformers.Dinov2Model(config).save_pretrained(folder)
    save(folder.parent / "own.safetensors", load_encoder(folder, "cpu"))
    return folder


@pytest.mark.parametrize("name", ODD)
def test_settings_choose_no_code_and_take_no_memory(dinov2, tmp_path, name):
    """Of a folder, and of a file of ours, whose description holds the same settings."""
    folder = shutil.copytree(dinov2, tmp_path / "folder")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **ODD[name]}))
    tensors, found = load_tensors(own := dinov2.parent / "own.safetensors"), read_description(own)
    encoder = found["config"]["encoder"]
    encoder["settings"] = json.dumps({**json.loads(encoder["settings"]), **ODD[name]})
    save_safetensors(tmp_path / "own.safetensors", tensors, found)
    for path in (folder, tmp_path / "own.safetensors"):
        if name in IGNORED:
            assert load_encoder(path, "cpu").embed_dim == TINY["hidden_size"]
            continue
        with pytest.raises((CheckpointError, ConfigError), match=str(path)):
            load_encoder(path, "cpu")


def lose(folder, _):
    weights = load_file(folder / "model.safetensors")
    kept = {key: value for key, value in weights.items() if "layer.1.mlp" not in key}
    kept["unused"] = torch.zeros(10**6)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def lead_elsewhere(folder, other):
    shutil.copy(folder / "model.safetensors", other)
    index = {
        "weight_map": dict.fromkeys(load_file(folder / "model.safetensors"), f"../{other.name}")
    }
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def adapt(folder, other):
    text = json.dumps({"base_model_name_or_path": str(other), "peft_type": "LORA"})
    (folder / "adapter_config.json").write_text(text)


@pytest.mark.parametrize("spoil", [lose, lead_elsewhere, adapt])
def test_weights_are_whole_and_in_the_folder(dinov2, tmp_path, spoil):
    folder = shutil.copytree(dinov2, tmp_path / "folder")
    spoil(folder, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=str(folder)):
        load_encoder(folder, "cpu")
