"""V-JEPA 2.1's dense losses: distances, ramp, levels, and training with both."""

import json
import math

import pytest
import torch

from planning.cli.app import compose_options
from planning.cli.fields import UsageError
from worldmodel.checkpoint import load_any
from worldmodel.errors import ConfigError
from worldmodel.models.frame_encoder import normalise
from worldmodel.perception.surprise.measure import load_surprise_model
from worldmodel.training.dense_losses import (
    context_weight_at,
    level_blocks,
    nearest_target,
    normalise_levels,
    visible_error,
)
from worldmodel.training.masking import TokenIds
from worldmodel.training.pretrain_options import DenseConfig
from worldmodel.training.run import run_task
from worldmodel.training.tasks.shapes import ShapesPretrainTask

GRID = (2, 3, 4)
TINY = [
    *("mode=shapes", "image_size=32", "stem=patch", "patch_size=8", "tubelet_size=2"),
    *("num_frames=4", "encoder_dim=24", "encoder_depth=2", "encoder_heads=2", "predictor_dim=24"),
    *("predictor_depth=1", "predictor_heads=2", "short_blocks=3", "long_blocks=1"),
    *("long_scale=0.5", "steps=8", "batch_size=8", "warmup=2", "decay=2", "lr=1e-3"),
    *("momentum=0.9", "momentum_end=0.99", "bf16=false", "probe_clips=64", "val_clips=64"),
    *("num_clips=512", "save_every=4", "log_every=1", "eval_every=100", "device=cpu"),
]


def tiny(out, *words):
    return compose_options("pretrain", [*TINY, f"out={out}", *words])


def ids_of(seed, context=7, target=5):
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(3, math.prod(GRID), generator=generator).argsort(1)
    return TokenIds(context=order[:, :context], target=order[:, context : context + target])


def test_distances_are_those_to_the_nearest_token_to_predict():
    ids = ids_of(0)
    found = nearest_target(ids, GRID)

    def place(token):
        return token // 12, token % 12 // 4, token % 4

    for row in range(3):
        for k, token in enumerate(ids.context[row].tolist()):
            wanted = min(math.dist(place(token), place(t)) for t in ids.target[row].tolist())
            assert found[row, k] == pytest.approx(wanted)
    assert found.min() >= 1


def test_errors_far_from_the_hidden_tokens_count_less():
    ids = ids_of(1)
    predicted, target = torch.randn(3, 7, 6), torch.randn(3, 7, 6)
    error = (predicted - target).abs()
    plain = visible_error(predicted, target, ids, GRID, by_distance=False)
    torch.testing.assert_close(plain, error.mean())
    weighted = visible_error(predicted, target, ids, GRID, by_distance=True)
    scale = nearest_target(ids, GRID)[..., None].sqrt()
    torch.testing.assert_close(weighted, (error / scale).mean())


def test_the_weight_rises_between_two_steps():
    ramp = DenseConfig(context_loss=0.5, context_from=10, context_until=20)
    found = [context_weight_at(step, ramp) for step in (0, 10, 15, 20, 99)]
    assert found == pytest.approx([0, 0, 0.25, 0.5, 0.5])
    assert context_weight_at(0, DenseConfig(context_loss=0.5)) == 0.5
    assert context_weight_at(7, DenseConfig()) == 0


def test_levels_are_normalised_one_by_one():
    assert level_blocks(1, 12) == ()
    assert level_blocks(4, 48) == (11, 23, 35, 47)
    assert level_blocks(2, 3) == (0, 2)
    with pytest.raises(ConfigError, match="more than the 3 blocks"):
        level_blocks(4, 3)
    tokens = torch.randn(2, 5, 12)
    parts = [normalise(part) for part in tokens.split(4, -1)]
    torch.testing.assert_close(normalise_levels(tokens, 3), torch.cat(parts, -1))
    torch.testing.assert_close(normalise_levels(tokens, 1), normalise(tokens))


def test_both_losses_learn_and_resume_bit_for_bit(tmp_path):
    words = ["levels=2", "context_loss=0.5", "context_until=4"]
    whole = run_task(ShapesPretrainTask.open(tiny(tmp_path / "whole", *words)))
    run_task(ShapesPretrainTask.open(tiny(tmp_path / "two", *words, "stop_after=3")))
    run_task(ShapesPretrainTask.open(tiny(tmp_path / "two", *words)))
    one, two = (load_any(str(tmp_path / name), "cpu") for name in ("whole", "two"))
    for key, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[key])
    assert one.backbone.config.norm_blocks == (0, 1)
    clip = torch.randint(256, (1, 4, 32, 32, 3), dtype=torch.uint8)
    assert one.encode_clip(clip).shape == (1, 32, 24)
    rows = [json.loads(x) for x in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    row = rows[-1]
    visible, hidden = (
        sum(row[f"{what}_{kind}"] for kind in ("short", "long")) / 2
        for what in ("visible", "masked")
    )
    assert row["loss"] == pytest.approx(hidden + 0.5 * visible, rel=1e-5)
    assert rows[0]["loss"] == pytest.approx((rows[0]["masked_short"] + rows[0]["masked_long"]) / 2)
    last = whole["last"]
    assert last["val_loss"] == pytest.approx(
        (last["val_masked_short"] + last["val_masked_long"]) / 2, rel=1e-5
    )
    assert not (tmp_path / "whole" / "pretrained.safetensors").exists()


def test_surprise_takes_the_predictor_of_hidden_tokens(tmp_path):
    run_task(ShapesPretrainTask.open(tiny(tmp_path, "context_loss=0.5", "steps=1")))
    found = load_surprise_model(tmp_path)
    assert not found.predictor.config.predict_context


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["context_until=5"], "has no effect with context_loss=0"),
        (["context_distance=false"], "has no effect with context_loss=0"),
        (["context_loss=1", "context_from=5"], "before context_from=5"),
        (["levels=2", "init=runs/x"], "several levels need new networks"),
    ],
)
def test_options_without_effect_are_refused(words, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        ShapesPretrainTask.open(tiny(tmp_path, *words)).build(torch.device("cpu"))


def test_targets_average_the_last_blocks(tmp_path):
    task = ShapesPretrainTask.open(tiny(tmp_path, "target_blocks=2"))
    objective = task.build(torch.device("cpu"))
    clip = torch.randn(3, 3, 4, 32, 32)
    found = objective.targets(clip)
    first, last = (objective.target.encode_levels(clip, [block]) for block in (0, 1))
    torch.testing.assert_close(found, normalise((normalise(first) + normalise(last)) / 2))
    run_task(ShapesPretrainTask.open(tiny(tmp_path, "target_blocks=2", "steps=1")))
    with pytest.raises(ConfigError, match="more than the 2 blocks"):
        ShapesPretrainTask.open(tiny(tmp_path, "target_blocks=3")).build(torch.device("cpu"))
    with pytest.raises((ConfigError, UsageError), match="one by one"):
        tiny(tmp_path, "target_blocks=2", "levels=2")
