"""Equality with transformers' VJEPA2 models on random weights, through the files they write."""

import json

import pytest
import torch

from worldmodel.checkpoint import load_encoder, load_probe, load_published, load_world_model
from worldmodel.errors import CheckpointError, ConfigError

transformers = pytest.importorskip("transformers")

SIZES = [
    {"hidden_size": 48, "num_attention_heads": 2, "num_hidden_layers": 3, "crop_size": 64},
    {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "crop_size": 96,
        "mlp_ratio": 48 / 11,
    },
    {"hidden_size": 160, "num_attention_heads": 2, "num_hidden_layers": 2, "crop_size": 32},
]


def config(**sizes):
    rest = {
        "frames_per_clip": 8,
        "pred_hidden_size": 48,
        "pred_num_attention_heads": 4,
        "pred_num_hidden_layers": 2,
        "pred_num_mask_tokens": 3,
        "num_pooler_layers": 2,
        "pred_zero_init_mask_tokens": False,
        "initializer_range": 0.2,
        "num_labels": 5,
        "attn_implementation": "sdpa",
    }
    return transformers.VJEPA2Config(**(rest | sizes))


def saved(model, folder):
    for value in model.parameters():
        if value.ndim == 1:
            torch.nn.init.normal_(value, 0.5, 0.2)  # biases and norms that do something
    model.save_pretrained(folder)
    return folder


def agree(found, wanted):
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=2e-5)


@torch.no_grad()
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("file", ["", "model.safetensors"])
def test_encoder_and_predictor(tmp_path, sizes, file):
    torch.manual_seed(0)
    theirs = transformers.VJEPA2Model(config(**sizes)).eval()
    path = saved(theirs, tmp_path) / file
    side = sizes["crop_size"]
    clip = torch.randn(2, 3, 8, side, side)
    count = 4 * (side // 16) ** 2
    order = torch.stack([torch.randperm(count) for _ in range(2)])
    seen, hidden = order[:, : count // 2].sort().values, order[:, count // 2 :].sort().values
    out = theirs(clip.transpose(1, 2), context_mask=[seen], target_mask=[hidden])

    encoder = load_published(path, "encoder", image_size=side, num_frames=8)
    tokens = encoder(clip)
    agree(tokens, out.last_hidden_state)
    predictor = load_published(path, "predictor", image_size=side, num_frames=8)
    assert predictor.config.rope == "tiled"
    context = tokens.gather(1, seen[..., None].expand(-1, -1, tokens.shape[-1]))
    agree(predictor(context, seen, hidden, 1), out.predictor_output.last_hidden_state)


@torch.no_grad()
def test_classifier(tmp_path):
    torch.manual_seed(1)
    theirs = transformers.VJEPA2ForVideoClassification(config(**SIZES[0])).eval()
    path = saved(theirs, tmp_path)
    clip = torch.randn(2, 3, 8, 64, 64)
    encoder = load_published(path, "encoder")
    probe = load_published(path, "probe")
    agree(probe(encoder(clip)), theirs(clip.transpose(1, 2)).logits)


@torch.no_grad()
def test_a_folder_is_a_model_and_its_config_is_honoured(tmp_path):
    torch.manual_seed(1)
    theirs = transformers.VJEPA2ForVideoClassification(config(**SIZES[1])).eval()
    path = saved(theirs, tmp_path)
    processor = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    (path / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    encoder = load_encoder(path, "cpu")
    assert encoder.image_size == (96, 96)
    assert encoder.config.encoder.num_frames == 8
    assert encoder.config.encoder.num_heads == 4
    assert encoder.observation_spec.pixel_mean == (0.5, 0.5, 0.5)
    frames = torch.randint(256, (1, 8, 96, 96, 3), dtype=torch.uint8)
    clip = (frames.float() / 255 - 0.5) / 0.25
    probe = load_probe(path, "cpu")
    agree(probe(encoder.encode_clip(frames)), theirs(clip.permute(0, 1, 4, 2, 3)).logits)
    with pytest.raises(CheckpointError, match="cannot imagine"):
        load_world_model(path, "cpu")


def test_missing_shards_are_noticed(tmp_path):
    path = saved(transformers.VJEPA2Model(config(**SIZES[0])), tmp_path)
    settings = json.loads((path / "config.json").read_text(encoding="utf-8"))
    settings["num_hidden_layers"] = 5
    (path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(CheckpointError, match="num_hidden_layers=5, the weights have 3"):
        load_encoder(path, "cpu")


def test_shards_and_half_precision(tmp_path):
    theirs = transformers.VJEPA2Model(config(**SIZES[0]))
    want = theirs.encoder.layernorm.weight.detach().half().float()
    theirs.half().save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert torch.equal(load_published(tmp_path, "encoder").norm.weight, want)


def test_what_does_not_fit_is_named(tmp_path):
    theirs = transformers.VJEPA2Model(config(**SIZES[0]))
    folder = saved(theirs, tmp_path)
    with pytest.raises(ConfigError, match=r"contradicts config\.json"):
        load_published(folder, "encoder", num_heads=4)
    with pytest.raises(CheckpointError, match="one encoder"):
        load_published(folder, "target_encoder")
    with pytest.raises(CheckpointError, match="no probe"):
        load_published(folder, "probe")
    with pytest.raises(ConfigError, match="rope"):
        load_published(folder, "encoder", rope="interleaved")

    (folder / "config.json").write_text(json.dumps({"model_type": "vjepa2"}))
    with pytest.raises(ConfigError, match="pass num_heads"):
        load_published(folder, "encoder")
    load_published(folder, "encoder", num_heads=2)

    file = folder / "model.safetensors"
    whole = file.read_bytes()
    for length in (4, 200, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"torn|damaged"):
            load_published(folder, "encoder", num_heads=2)


@pytest.mark.parametrize("change", ["missing", "shape", "extra"])
def test_query_key_and_value_belong_together(tmp_path, change):
    from safetensors.torch import load_file, save_file

    folder = saved(transformers.VJEPA2Model(config(**SIZES[0])), tmp_path)
    tensors = load_file(folder / "model.safetensors")
    key = "encoder.layer.1.attention.key.weight"
    if change == "missing":
        del tensors[key]
    elif change == "shape":
        tensors[key] = torch.zeros(24, 48)
    else:
        tensors["encoder.layer.1.attention.surprise"] = torch.zeros(2)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"attn\.qkv|attention\.surprise"):
        load_published(folder, "encoder")
