"""I-JEPA's published layout and Hugging Face's: the same numbers as theirs, both ways."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from worldmodel.checkpoint import load_encoder, load_published, save
from worldmodel.checkpoints import registry
from worldmodel.checkpoints.published.ijepa import write_huggingface
from worldmodel.errors import CheckpointError, ConfigError, ShapeError
from worldmodel.models.config import EncoderConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.models.masked_predictor import MaskedPredictor

GOLDEN = Path(__file__).parents[2] / "golden" / "perception"
FILE = GOLDEN / "ijepa_layout.pth.tar"
SIZES = json.loads((GOLDEN / "golden_perception.json").read_text("utf-8"))["parts"]["ijepa"][
    "config"
]


@pytest.fixture(scope="module")
def arrays():
    with np.load(GOLDEN / "golden_perception.npz") as found:
        return {k: torch.from_numpy(found[k]) for k in found.files if k.startswith("ijepa")}


def agree(found, wanted):
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=0)


def published(part, **options):
    return load_published(FILE, part, num_heads=SIZES["heads"], **options)


def clip(images_BCHW):
    return images_BCHW.permute(0, 2, 3, 1).unsqueeze(1)


def test_features_of_images_of_its_own_and_of_another_size(arrays):
    target = VideoEncoder.of(published("target_encoder"))
    tokens = target.encode_clip(clip(arrays["ijepa_image_u8"]))
    agree(tokens, arrays["ijepa_target_tokens"])
    agree(tokens.mean(1), arrays["ijepa_image_feature"])
    online = VideoEncoder.of(published("encoder"))
    agree(online.encode_clip(clip(arrays["ijepa_image_u8"])), arrays["ijepa_encoder_tokens"])
    tall = target.encode_clip(clip(arrays["ijepa_image_tall_u8"]))
    agree(tall, arrays["ijepa_target_tokens_tall_transformers"])


def test_our_position_tables_are_the_published_ones():
    encoder, predictor = published("encoder"), published("predictor")
    agree(VisionTransformer(encoder.config).pos_embed, encoder.pos_embed)
    fresh = MaskedPredictor(predictor.config).predictor_pos_embed
    agree(fresh, predictor.predictor_pos_embed)


def test_the_predictor_has_one_mask_token_and_takes_other_grids(arrays):
    predictor = published("predictor")
    assert predictor.config.num_mask_tokens == 1
    assert predictor.mask_token_of(1) == 0
    _, rows, columns = predictor.config.grid
    wider = (1, rows, columns + 2)
    ids = torch.arange(rows * (columns + 2))[None]
    context = torch.randn(1, 5, predictor.config.encoder_dim)
    out = predictor(context, ids[:, :5], ids[:, 5:], grid=wider)
    assert out.shape == (1, ids.shape[1] - 5, predictor.config.out_dim)


def test_frames_of_a_clip_are_encoded_one_by_one(arrays, tmp_path):
    encoder = VideoEncoder.of(published("target_encoder"))
    images = arrays["ijepa_image_u8"].permute(0, 2, 3, 1)
    tokens = encoder.encode_clip(images[None])
    assert torch.equal(tokens, encoder.encode_clip(images.unsqueeze(1)).flatten(0, 1)[None])
    with pytest.raises(ShapeError, match="image model"):
        encoder.backbone(torch.zeros(1, 3, 2, SIZES["img"], SIZES["img"]))
    save(tmp_path / "own.safetensors", encoder)
    again = load_encoder(tmp_path / "own.safetensors", "cpu")
    assert torch.equal(again.encode_clip(images[None]), tokens)


def test_an_encoder_of_a_predictors_width_and_depth_needs_its_heads(tmp_path):
    small = EncoderConfig(
        image_size=(28, 28),
        num_frames=1,
        patch_size=14,
        tubelet_size=1,
        embed_dim=384,
        depth=12,
        num_heads=6,
        position="sincos_2d",
    )
    state = VisionTransformer(small).state_dict()
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"].squeeze(2)
    torch.save({"encoder": state}, tmp_path / "small.pth.tar")
    with pytest.raises(ConfigError, match="num_heads"):
        load_published(tmp_path / "small.pth.tar", "encoder")
    loaded = load_published(tmp_path / "small.pth.tar", "encoder", num_heads=6)
    assert loaded.config.num_heads == 6


def test_unknown_heads_and_tables_of_no_square_are_errors(tmp_path):
    with pytest.raises(ConfigError, match="num_heads"):
        load_published(FILE, "encoder")
    state = torch.load(FILE, weights_only=True)["encoder"]
    cut = state | {"module.pos_embed": state["module.pos_embed"][:, :-1]}
    torch.save({"encoder": cut}, tmp_path / "cut.pth.tar")
    with pytest.raises(ConfigError, match="not a square number"):
        load_published(tmp_path / "cut.pth.tar", "encoder", num_heads=2)
    del cut["module.pos_embed"]
    torch.save({"encoder": cut}, tmp_path / "none.pth.tar")
    with pytest.raises(CheckpointError, match="position table"):
        load_published(tmp_path / "none.pth.tar", "encoder", num_heads=2)


@torch.no_grad()
@pytest.mark.parametrize(("patch", "side", "eps"), [(14, 56, 1e-12), (16, 48, 1e-6)])
def test_transformers_and_ours_read_each_others_folders(patch, side, eps, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.IJepaConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=50,
        image_size=side,
        patch_size=patch,
        layer_norm_eps=eps,
    )
    theirs = transformers.IJepaModel(config).eval()
    for weight in theirs.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_encoder(tmp_path / "theirs", "cpu")
    square, wide = torch.randn(2, 3, side, side), torch.randn(1, 3, side, side + 2 * patch)
    agree(ours.tokens_of(square.unsqueeze(2)), theirs(square).last_hidden_state)
    wanted = theirs(wide, interpolate_pos_encoding=True).last_hidden_state
    agree(ours.tokens_of(wide.unsqueeze(2)), wanted)
    assert ours.image_size == (side, side)
    write_huggingface(ours.backbone, tmp_path / "ours")
    again = transformers.IJepaModel.from_pretrained(tmp_path / "ours").eval()
    assert torch.equal(again(square).last_hidden_state, theirs(square).last_hidden_state)
    classifier = transformers.IJepaForImageClassification(config).eval()
    classifier.save_pretrained(tmp_path / "classifier")
    inside = load_encoder(tmp_path / "classifier", "cpu").tokens_of(square.unsqueeze(2))
    agree(inside, classifier.ijepa(square).last_hidden_state)


def test_a_video_encoder_has_no_hugging_face_layout_of_images(tmp_path):
    video = VisionTransformer(EncoderConfig(embed_dim=24, depth=1, num_heads=2))
    with pytest.raises(ConfigError, match="I-JEPA encoders"):
        write_huggingface(video, tmp_path)


def test_the_published_names_have_their_licence_and_size():
    names = [name for name in registry.REGISTRY if name.startswith("ijepa")]
    assert len(names) == 8
    assert {registry.get(name).licence for name in names} == {"CC BY-NC 4.0"}
    assert registry.get("ijepa-vith14-in1k").part == "target_encoder"
    assert registry.get("ijepa-vith16-448-in1k").image_size == 448
    assert 629e6 < registry.num_parameters("ijepa-vith14-in1k") < 632e6
    assert 1.0e9 < registry.num_parameters("ijepa-vitg16-in22k") < 1.02e9
