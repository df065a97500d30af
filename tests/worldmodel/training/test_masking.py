import dataclasses
import importlib
from pathlib import Path

import pytest
import torch

from worldmodel.errors import ConfigError, ShapeError
from worldmodel.models.config import EncoderConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.training.masking import (
    LONG_RANGE,
    SHORT_RANGE,
    BlockMask,
    block_size,
    gather_tokens,
    hidden_blocks,
    hide_pixels,
    sample_masks,
    step_generator,
)

GRID = (8, 16, 16)


@pytest.mark.parametrize("kind", [SHORT_RANGE, LONG_RANGE])
def test_context_and_target_are_disjoint_sorted_and_full_length(kind):
    ids = sample_masks(6, GRID, kind, step_generator(0, 0))
    assert ids.context.dtype == ids.target.dtype == torch.long
    for context, target in zip(ids.context, ids.target, strict=True):
        assert not set(context.tolist()) & set(target.tolist())
        assert (context.diff() > 0).all()
        assert (target.diff() > 0).all()
        assert int(target.max()) < 8 * 256


def test_published_kinds_hide_what_the_paper_says():
    # 1 - (1 - 0.15)^8 = 0.73 and 1 - (1 - 0.7)^2 = 0.91 without borders, which make blocks overlap
    shares = []
    for kind in (SHORT_RANGE, LONG_RANGE):
        hidden = []
        for step in range(40):
            generator = step_generator(3, step)
            size = block_size(GRID, kind, generator)
            mask = hidden_blocks(GRID, size, kind.num_blocks, generator)
            hidden.append(float(mask.float().mean()))
            assert (mask == mask[:1]).all(), "a block spans all frames"
        shares.append(sum(hidden) / len(hidden))
    assert 0.55 < shares[0] < 0.80
    assert 0.75 < shares[1] < 0.95


def test_blocks_have_the_area_and_aspect_asked_for():
    for step in range(50):
        _, height, width = block_size(GRID, SHORT_RANGE, step_generator(1, step))
        assert height * width == pytest.approx(0.15 * 256, rel=0.25)
        assert 0.6 < height / width < 1.8


def test_published_block_sizes_and_schedules(monkeypatch):
    root = Path(__file__).parents[3]
    monkeypatch.syspath_prepend(root / "benchmarks")
    folder = root / "tests" / "golden" / "perception"
    golden = importlib.import_module("agreement_golden").Golden(folder, "golden_perception")
    families = importlib.import_module("agreement_pretraining")
    rows = [*families.schedules(golden), *families.block_sizes(golden)]
    assert len(rows) == 6
    for _, found, wanted in rows:
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)


def test_masks_are_a_function_of_seed_and_step():
    def draw(seed, step):
        return sample_masks(4, GRID, SHORT_RANGE, step_generator(seed, step))

    torch.manual_seed(1)
    first = draw(5, 9)
    torch.manual_seed(2)
    again = draw(5, 9)
    assert torch.equal(first.context, again.context)
    assert torch.equal(first.target, again.target)
    for other in (draw(5, 10), draw(6, 9)):
        same = first.context.shape == other.context.shape
        assert not (same and torch.equal(first.context, other.context))


def test_clips_of_a_batch_differ_and_a_shorter_duration_leaves_frames_visible():
    ids = sample_masks(2, GRID, SHORT_RANGE, step_generator(0, 1))
    assert not torch.equal(ids.context[0], ids.context[1])
    short = BlockMask(num_blocks=1, scale=1.0, aspect=(1.0, 1.0), duration=0.5)
    ids = sample_masks(3, GRID, short, step_generator(0, 2))
    assert ids.target.shape == (3, 4 * 256)
    assert len((ids.target[0] // 256).unique()) == 4


@pytest.mark.parametrize("grid", [(3, 5, 5), (4, 8, 8), GRID])
@pytest.mark.parametrize("kind", [SHORT_RANGE, LONG_RANGE])
def test_contexts_of_median_length_keep_what_the_blocks_leave(grid, kind):
    lengths = {"shortest": 0, "median": 0}
    visible = 0.0
    for step in range(6):
        generator = step_generator(7, step)
        size = block_size(grid, kind, generator)
        drawn = [hidden_blocks(grid, size, kind.num_blocks, generator) for _ in range(32)]
        visible += sum(float((~hidden).sum()) for hidden in drawn) / 32
        for name in lengths:
            asked = dataclasses.replace(kind, cut_to=name)
            ids = sample_masks(32, grid, asked, step_generator(7, step))
            again = sample_masks(32, grid, asked, step_generator(7, step))
            assert torch.equal(ids.context, again.context)
            lengths[name] += ids.context.shape[1]
            joined = torch.cat([ids.context, ids.target], 1).sort(1).values
            assert (joined.diff(dim=1) > 0).all(), "no token is visible and hidden"
    share = 0.5 if (grid, kind) == ((3, 5, 5), SHORT_RANGE) else 0.9
    assert lengths["shortest"] < share * lengths["median"]
    assert 0.8 * visible < lengths["median"] < 1.2 * visible


def test_a_clip_that_is_never_near_the_median_is_kept():
    kind = BlockMask(num_blocks=1, scale=0.5, aspect=(1.0, 1.0), cut_to="median")
    ids = sample_masks(4, (1, 4, 4), kind, step_generator(0, 0))
    assert ids.context.shape == (4, 7)


def test_small_grids_keep_some_context():
    kind = BlockMask(num_blocks=2, scale=0.7, min_context=1 / 8)
    for step in range(30):
        ids = sample_masks(8, (2, 4, 4), kind, step_generator(0, step))
        assert ids.context.shape[1] >= 4
        assert ids.target.shape[1] > 0


def test_errors_name_the_value_and_the_mend():
    with pytest.raises(ConfigError, match="lower scale"):
        sample_masks(1, (1, 2, 2), BlockMask(num_blocks=1, scale=1.0), step_generator(0, 0))
    for wrong in ({"scale": 0.0}, {"num_blocks": 0}, {"aspect": (2.0, 1.0)}, {"min_context": 1.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            BlockMask(**({"num_blocks": 1, "scale": 0.5} | wrong))
    with pytest.raises(ShapeError, match="does not divide"):
        hide_pixels(torch.zeros(1, 3, 2, 30, 32), torch.zeros(1, 1, dtype=torch.long), 16, 2)


def test_hidden_pixels_cannot_reach_a_conv_stems_visible_tokens():
    config = EncoderConfig(
        image_size=(32, 32),
        num_frames=2,
        patch_size=8,
        tubelet_size=1,
        embed_dim=24,
        depth=1,
        num_heads=2,
        rope="interleaved",
        stem="conv",
        stem_channels=(8, 8, 8),
    )
    torch.manual_seed(0)
    encoder = VisionTransformer(config).eval()
    ids = sample_masks(2, (2, 4, 4), SHORT_RANGE, step_generator(0, 0))
    clip = torch.randn(2, 3, 2, 32, 32)
    hidden = hide_pixels(torch.ones_like(clip), ids.context, 8, 1) == 0
    other = torch.where(hidden, torch.randn_like(clip), clip)
    shown = [encoder(hide_pixels(x, ids.context, 8, 1), ids.context) for x in (clip, other)]
    torch.testing.assert_close(shown[0], shown[1])
    leaking = [encoder(x, ids.context) for x in (clip, other)]
    assert (leaking[0] - leaking[1]).abs().max() > 1e-3


def test_hiding_follows_token_order_and_gather_picks_rows():
    clip = torch.ones(1, 3, 4, 8, 8)
    shown = hide_pixels(clip, torch.tensor([[5]]), 4, 2)  # tubelet 1, row 0, column 1
    assert shown[0, :, 2:, :4, 4:].eq(1).all()
    assert shown.sum() == 3 * 2 * 16
    tokens = torch.arange(6.0).view(1, 3, 2)
    assert gather_tokens(tokens, torch.tensor([[2, 0]])).tolist() == [[[4.0, 5.0], [0.0, 1.0]]]
