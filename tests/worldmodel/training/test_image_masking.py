"""I-JEPA's masks, objective and schedules, as published."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from worldmodel.checkpoint import load_published
from worldmodel.errors import ConfigError
from worldmodel.models.config import EncoderConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.training.image_masking import ImageIds, block_sizes, sample_image_masks
from worldmodel.training.image_objective import ImageObjective, image_predictor
from worldmodel.training.image_options import ImageMask
from worldmodel.training.masking import step_generator
from worldmodel.training.schedules import warmup_cosine

GOLDEN = Path(__file__).parents[2] / "golden" / "perception"
FACTS = json.loads((GOLDEN / "golden_perception.json").read_text("utf-8"))["parts"]["ijepa"]


@pytest.fixture(scope="module")
def arrays():
    with np.load(GOLDEN / "golden_perception.npz") as found:
        return {k: torch.from_numpy(found[k]) for k in found.files}


def agree(found, wanted):
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=0)


def test_block_sizes_are_functions_of_the_step(arrays):
    checked = 0
    for name, rows in arrays.items():
        if found := re.fullmatch(r"ijepa_block_sizes_vit[a-z]+(\d+)_(\d+)", name):
            side = int(found[2]) // int(found[1])
            for step, *wanted in rows.tolist():
                target, context = block_sizes((side, side), ImageMask(), step)
                assert [*target, *context] == wanted
                checked += 1
    assert checked == 3 * 32


def draw(steps, grid, **options):
    mask = ImageMask(**options)
    return [sample_image_masks(8, grid, mask, s, step_generator(0, s)) for s in range(steps)]


@pytest.mark.parametrize("name", ["vith14_224", "vitg16_224"])
def test_the_released_masks_have_the_published_statistics(name):
    facts = FACTS["mask_statistics"][name]
    side = facts["grid"]
    ids = draw(150, (side, side), as_released=True)
    counts = torch.tensor([i.context.shape[1] for i in ids], dtype=torch.float64)
    assert counts.mean() == pytest.approx(facts["context_tokens_mean"], rel=0.05)
    sizes = torch.tensor([i.targets.shape[2] for i in ids], dtype=torch.float64)
    assert sizes.mean() == pytest.approx(facts["target_tokens_mean"], rel=0.01)
    rows = torch.cat([i.context.flatten() for i in ids]) // side
    share = torch.bincount(rows, minlength=side) / len(rows)
    agree_within = torch.tensor(facts["context_token_share_by_row"])
    torch.testing.assert_close(share, agree_within, atol=0.015, rtol=0, check_dtype=False)
    assert share[-1] == 0
    assert not any((i.targets >= side * (side - 1)).any() for i in ids)


def test_ours_reach_the_last_row_and_favour_no_row():
    side = 16
    ids = draw(150, (side, side))
    assert any((i.targets >= side * (side - 1)).any() for i in ids)
    assert any((i.targets % side == side - 1).any() for i in ids)
    rows = torch.cat([i.context.flatten() for i in ids]) // side
    share = torch.bincount(rows, minlength=side) / len(rows)
    assert abs(float(share[:8].sum()) - 0.5) < 0.03


def test_context_and_targets_share_no_token_and_repeat_with_the_seed():
    for first, again in zip(draw(20, (14, 14)), draw(20, (14, 14)), strict=True):
        assert torch.equal(first.context, again.context)
        assert torch.equal(first.targets, again.targets)
        assert first.context.shape[1] > ImageMask().min_keep
        for b in range(8):
            assert not set(first.context[b].tolist()) & set(first.targets[:, b].flatten().tolist())


def test_a_context_that_is_too_small_overlaps_targets():
    ids = draw(3, (8, 8), target_scale=(0.7, 0.7), target_aspect=(1.0, 1.0), num_targets=3)
    assert all(i.context.shape[1] > 10 for i in ids)


def test_grids_that_are_too_small_are_an_error():
    with pytest.raises(ConfigError, match="min_keep"):
        draw(1, (6, 6))
    with pytest.raises(ConfigError, match="low <= high"):
        ImageMask(target_scale=(0.2, 0.1))


@torch.no_grad()
def test_context_predictions_targets_and_loss(arrays):
    heads = FACTS["config"]["heads"]
    encoder, predictor, target = (
        load_published(GOLDEN / "ijepa_layout.pth.tar", part, num_heads=heads)
        for part in ("encoder", "predictor", "target_encoder")
    )
    objective = ImageObjective(encoder, predictor, target)
    ids = ImageIds(context=arrays["ijepa_mask_context"], targets=arrays["ijepa_mask_targets"])
    frames = arrays["ijepa_image_u8"].permute(0, 2, 3, 1)
    pixels = VideoEncoder.of(target).pixels(frames)
    agree(encoder(pixels.unsqueeze(2), ids.context), arrays["ijepa_context_tokens"])
    agree(objective.predict(pixels, ids), arrays["ijepa_predicted"])
    agree(objective.targets(pixels, ids), arrays["ijepa_targets"])
    agree(objective.loss(pixels, ids).double(), arrays["ijepa_loss_smooth_l1"])


def test_the_objective_trains_encoder_and_predictor_and_moves_the_target():
    torch.manual_seed(0)
    config = EncoderConfig(
        image_size=(64, 64),
        num_frames=1,
        patch_size=8,
        tubelet_size=1,
        embed_dim=16,
        depth=1,
        num_heads=2,
        position="sincos_2d",
    )
    encoder = VisionTransformer(config)
    objective = ImageObjective(encoder, image_predictor(config, embed_dim=16, depth=1))
    ids = sample_image_masks(2, (8, 8), ImageMask(min_keep=4), 0, step_generator(0, 0))
    images = torch.randn(2, 3, 64, 64)
    trained = [p for p in objective.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    losses = []
    for _ in range(20):
        loss = objective.loss(images, ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is None for p in objective.target.parameters())
    before = objective.target.norm.weight.clone()
    objective.update_target(0.5)
    torch.testing.assert_close(objective.target.norm.weight, (before + encoder.norm.weight) / 2)


def test_published_schedules(arrays):
    steps = range(1, 51)
    rate = {"start": 2e-4, "peak": 1e-3, "end": 1e-6, "warmup": 10, "total": 50}
    decay = {"start": 0.04, "peak": 0.04, "end": 0.4, "warmup": 0, "total": 50}
    found = {
        "ijepa_lr_50": [warmup_cosine(s, **rate) for s in steps],
        "ijepa_wd_50": [warmup_cosine(s, **decay) for s in steps],
    }
    for name, values in found.items():
        np.testing.assert_allclose(values, arrays[name].numpy(), rtol=0, atol=1e-15)
