"""Golden arrays through `load_published`, and files generated in every published layout."""

from pathlib import Path

import numpy as np
import pytest
import torch

from worldmodel.checkpoint import load_published
from worldmodel.models.ac_predictor import ActionConditionedPredictor
from worldmodel.models.config import EncoderConfig, MaskedPredictorConfig, PredictorConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.kernels.optimize import optimize_for_cpu
from worldmodel.models.masked_predictor import MaskedPredictor

GOLDEN = Path(__file__).parents[2] / "golden"
V2 = {"num_heads": 2, "image_size": 64, "num_frames": 8}
V21 = {"num_heads": 2, "image_size": 64, "num_frames": 4}


def arrays_of(name):
    return {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / name).items()}


@pytest.fixture(scope="module")
def arrays():
    return arrays_of("golden.npz")


def agree(found, wanted):
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=0)


@torch.no_grad()
def test_vjepa2(arrays):
    file = GOLDEN / "vjepa2_pretrain_layout.pt"
    encoder = load_published(file, "encoder", **V2)
    agree(encoder(arrays["clip"]), arrays["encoder_tokens"])
    agree(encoder(arrays["clip_nonsquare"]), arrays["encoder_tokens_nonsquare"])
    seen = encoder(arrays["clip"], arrays["mask_context"])
    agree(seen, arrays["encoder_tokens_masked"])
    target = load_published(file, "target_encoder", num_heads=2)
    agree(target(arrays["clip"]), arrays["target_encoder_tokens"])
    assert encoder.config.rope == "tiled"
    predictor = load_published(file, "predictor", **V2)
    assert predictor.config.rope == "tiled"
    for token in (0, 1):
        out = predictor(seen, arrays["mask_context"], arrays["mask_target"], token)
        agree(out, arrays[f"predictor_out_mask_token_{token}"])


@torch.no_grad()
def test_vjepa2_ac(arrays):
    model = load_published(GOLDEN / "vjepa2_ac_layout.pt", "predictor", **V2)
    given = [arrays[f"ac_{k}"] for k in ("frames", "actions", "states")]
    agree(model(*given), arrays["ac_out"])
    agree(model(given[0][:, :32], given[1][:, :2], given[2][:, :2]), arrays["ac_out_T2"])
    model = load_published(GOLDEN / "vjepa2_ac_extrinsics_layout.pt", "predictor", **V2)
    keys = ("frames", "actions", "states", "extrinsics")
    given = [arrays[f"ac_extrinsics_{k}"] for k in keys]
    agree(model(*given), arrays["ac_extrinsics_out"])
    first = [given[0][:, :32], *(x[:, :2] for x in given[1:])]
    agree(model(*first), arrays["ac_extrinsics_out_T2"])
    for part in ("encoder", "target_encoder"):
        load_published(GOLDEN / "vjepa2_ac_layout.pt", part, num_heads=2)


@torch.no_grad()
@pytest.mark.parametrize("sizes", [{}, {"image_size": 64}, {"image_size": 64, "num_frames": 8}])
def test_vjepa1_reads_its_sizes_off_the_position_table(arrays, sizes):
    model = load_published(GOLDEN / "vjepa1_layout.pth.tar", "encoder", num_heads=2, **sizes)
    assert model.config.image_size == (64, 64)
    agree(model(arrays["clip"]), arrays["vjepa1_encoder_tokens"])
    agree(model(arrays["clip"], arrays["mask_context"]), arrays["vjepa1_encoder_tokens_masked"])
    assert model(torch.zeros(1, 3, 4, 96, 64)).shape == (1, 2 * 6 * 4, 96)


@torch.no_grad()
def test_vjepa21():
    arrays = arrays_of("golden21.npz")
    file = GOLDEN / "vjepa21_layout.pt"
    encoder = load_published(file, "encoder", **V21)
    agree(encoder(arrays["clip"]), arrays["encoder_tokens"])
    agree(encoder(arrays["image"]), arrays["image_tokens"])
    agree(encoder(arrays["clip_nonsquare"]), arrays["encoder_tokens_nonsquare"])
    seen = encoder(arrays["clip"], arrays["mask_context"])
    agree(seen, arrays["encoder_tokens_masked"])
    predictor = load_published(file, "predictor", **V21)
    targets, context = predictor(seen, arrays["mask_context"], arrays["mask_target"], 1)
    agree(targets, arrays["predictor_targets"])
    agree(context, arrays["predictor_context"])
    assert (encoder.config.rope, predictor.config.rope) == ("interleaved", "interleaved")
    assert load_published(file, "target_encoder", **V21).config.interpolate_rope


@torch.no_grad()
def test_probe(arrays):
    model = load_published(GOLDEN / "probe_layout.pt", "probe", num_heads=2)
    agree(model(arrays["encoder_tokens"]), arrays["probe_logits"])
    assert model.config.depth == 2


def write(path, **parts):
    named = {
        part: {f"module.backbone.{k}": v for k, v in model.state_dict().items()}
        for part, model in parts.items()
    }
    torch.save({**named, "opt": None, "epoch": 3, "lr": 1e-4}, path)


@torch.no_grad()
def test_heads_come_from_the_preset_of_width_and_depth(tmp_path):
    model = VisionTransformer(EncoderConfig(embed_dim=192, depth=12, num_heads=3)).eval()
    write(tmp_path / "tiny.pt", encoder=model)
    loaded = load_published(tmp_path / "tiny.pt", "encoder")
    assert loaded.config.num_heads == 3
    clip = torch.randn(1, 3, 4, 48, 32)
    assert torch.equal(loaded(clip), optimize_for_cpu(model)(clip))  # as a loaded one is


@torch.no_grad()
def test_vjepa1_predictor_and_interpolated_position_table(tmp_path):
    model = MaskedPredictor(
        MaskedPredictorConfig(
            grid=(8, 3, 3),
            encoder_dim=32,
            out_dim=32,
            embed_dim=24,
            depth=2,
            num_heads=2,
            num_mask_tokens=2,
            position="sincos",
        )
    ).eval()
    write(tmp_path / "v1.pth.tar", predictor=model)
    loaded = load_published(tmp_path / "v1.pth.tar", "predictor", num_heads=2)
    assert loaded.config.grid == (8, 3, 3)
    context, ids, targets = torch.randn(1, 4, 32), torch.arange(4)[None], torch.arange(4, 9)[None]
    assert torch.equal(loaded(context, ids, targets, 1), model(context, ids, targets, 1))
    assert [loaded.mask_token_of(kind) for kind in (0, 1, 2)] == [0, 1, 0]


def test_vjepa2_trained_only_mask_token_0():
    file = GOLDEN / "vjepa2_pretrain_layout.pt"
    loaded = load_published(file, "predictor", num_heads=2, image_size=64, num_frames=8)
    assert loaded.config.num_mask_tokens == 3
    assert [loaded.mask_token_of(kind) for kind in (0, 1)] == [0, 0]


@torch.no_grad()
def test_vjepa21_giant_predictor_takes_four_levels(tmp_path):
    config = MaskedPredictorConfig(
        grid=(2, 4, 4),
        encoder_dim=4 * 32,
        out_dim=4 * 32,
        embed_dim=24,
        depth=2,
        num_heads=2,
        num_mask_tokens=8,
        mask_token_per_kind=False,
        modality_embedding=True,
        predict_context=True,
        embed_hidden=40,
        rope="interleaved",
    )
    write(tmp_path / "g.pt", predictor=MaskedPredictor(config))
    loaded = load_published(
        tmp_path / "g.pt", "predictor", num_heads=2, image_size=64, num_frames=4
    )
    assert loaded.config == config


@torch.no_grad()
@pytest.mark.parametrize("use_state", [True, False])
def test_jepa_wms_action_conditioned_predictor(tmp_path, use_state):
    config = PredictorConfig(
        grid=(2, 3),
        encoder_dim=32,
        embed_dim=48,
        depth=2,
        num_heads=4,
        num_frames=8,
        use_state=use_state,
        has_extrinsics_encoder=False,
    )
    model = ActionConditionedPredictor(config).eval()
    state = {
        f"module.{k.replace('state_encoder', 'proprio_encoder')}": v
        for k, v in model.state_dict().items()
    }
    torch.save({"predictor": state, "epoch": 1}, tmp_path / "wm.pth.tar")
    loaded = load_published(
        tmp_path / "wm.pth.tar", "predictor", num_heads=4, image_size=(32, 48), num_frames=8
    )
    given = torch.randn(1, 12, 32), torch.randn(1, 2, 7), torch.randn(1, 2, 7)
    assert torch.equal(loaded(*given), model(*given))
    with pytest.raises(RuntimeError, match="no encoder"):
        load_published(tmp_path / "wm.pth.tar", "encoder")


@torch.no_grad()
def test_half_precision_files_become_float32(tmp_path):
    model = VisionTransformer(EncoderConfig(embed_dim=32, depth=2, num_heads=2)).eval()
    state = {f"module.{k}": v.bfloat16() for k, v in model.state_dict().items()}
    torch.save({"encoder": state}, tmp_path / "half.pt")
    loaded = load_published(tmp_path / "half.pt", "encoder", num_heads=2)
    assert {v.dtype for v in loaded.state_dict().values()} == {torch.float32}


@torch.no_grad()
def test_bf16_autocast_stays_near_float32(arrays):
    model = load_published(GOLDEN / "vjepa2_pretrain_layout.pt", "encoder", **V2)
    exact = model(arrays["clip"])
    with torch.autocast("cpu", torch.bfloat16):
        near = model(arrays["clip"]).float()
    assert (near - exact).norm() / exact.norm() < 3e-2


@torch.no_grad()
@pytest.mark.parametrize("change", ["frame", "action", "state"])
def test_block_causality_is_bit_identical(arrays, change):
    model = load_published(GOLDEN / "vjepa2_ac_layout.pt", "predictor", **V2)
    frames, actions, states = (arrays[f"ac_{k}"] for k in ("frames", "actions", "states"))
    before = model(frames, actions, states)
    for t in range(1, 4):
        given = {"frame": frames.clone(), "action": actions.clone(), "state": states.clone()}
        given["frame" if change == "frame" else change][
            :, t * (16 if change == "frame" else 1)
        ] += 1
        after = model(*given.values())
        assert torch.equal(after[:, : t * 16], before[:, : t * 16])
        assert not torch.equal(after[:, t * 16 : (t + 1) * 16], before[:, t * 16 : (t + 1) * 16])
