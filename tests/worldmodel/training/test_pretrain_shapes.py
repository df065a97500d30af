import json

import numpy as np
import pytest
import torch

from planning.cli.app import compose_options
from planning.cli.fields import UsageError
from worldmodel.checkpoint import load_any
from worldmodel.data.shape_options import LABELS
from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.evaluation.feature_health import explained_share
from worldmodel.perception.surprise.measure import (
    SurpriseConfig,
    load_surprise_model,
    video_surprises,
)
from worldmodel.training.losses import sigreg_loss
from worldmodel.training.run import run_task
from worldmodel.training.shape_objectives import patch_pixels
from worldmodel.training.step_masks import draw_masks, kinds_of_step
from worldmodel.training.tasks.shapes import ShapesPretrainTask, open_shapes

TINY = [
    *("mode=shapes", "image_size=32", "stem=patch", "patch_size=8", "tubelet_size=2"),
    *("num_frames=4", "encoder_dim=24", "encoder_depth=1", "encoder_heads=2", "predictor_dim=24"),
    *("predictor_depth=1", "predictor_heads=2", "short_blocks=3", "long_blocks=1"),
    *("long_scale=0.5", "steps=8", "batch_size=8", "warmup=2", "decay=2", "lr=1e-3"),
    *("momentum=0.9", "momentum_end=0.99", "bf16=false", "probe_clips=64", "val_clips=64"),
    *("num_clips=512", "save_every=4", "log_every=1", "eval_every=100", "device=cpu"),
]


def tiny(out, *words):
    return compose_options("pretrain", [*TINY, f"out={out}", *words])


def run(options) -> dict:
    return run_task(ShapesPretrainTask.open(options))


@pytest.mark.parametrize("objective", ["latent", "pixels", "labels"])
def test_every_objective_learns_and_resumes_bit_for_bit(tmp_path, objective):
    words = [f"objective={objective}", "alternate=true", "max_targets=5"]
    words += ["sigreg=0.1"] if objective == "pixels" else []  # its directions resume as well
    whole = run(tiny(tmp_path / "whole", *words))
    run(tiny(tmp_path / "two", *words, "stop_after=4"))
    run(tiny(tmp_path / "two", *words))
    one, two = (
        load_any(str(tmp_path / name / "encoder.safetensors"), "cpu") for name in ("whole", "two")
    )
    for key, value in one.state_dict().items():
        torch.testing.assert_close(value, two.state_dict()[key], rtol=0, atol=0)
    last = whole["last"]
    assert {"effective_rank_student", "colour_share", "feature_std"} <= last.keys()
    assert all(0 <= last[f"probe_{name}"] <= 1 for name in LABELS)
    assert ("val_mean" in last) == (objective != "labels")
    rows = [json.loads(x) for x in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["val_loss"] < rows[0]["val_loss"]
    page = (tmp_path / "whole/training.html").read_text()
    assert "Linear probes of whole clips" in page
    assert "patch&#x27;s colour" in page


def test_sigreg_is_least_for_normal_features():
    torch.manual_seed(0)
    normal = torch.randn(2000, 8)
    wrong = {"collapsed": 0 * normal, "wide": 3 * normal, "shifted": normal + 1}
    wrong |= {
        "on a line": normal[:, :1].expand(-1, 8),
        "two points": normal.sign()[:, :1] + 0 * normal,
    }
    least = float(sigreg_loss(normal))
    assert least < 0.01
    for name, features in wrong.items():
        assert float(sigreg_loss(features)) > 5 * least, name


def test_sigreg_adds_to_the_loss_of_the_training_alone(tmp_path):
    task = ShapesPretrainTask.open(tiny(tmp_path, "sigreg=2"))
    objective = task.build(torch.device("cpu"))
    batch = task.load(0, np.arange(8), slice(0, 8))
    for training in (True, False):
        losses = objective.train(training)(batch)
        masked = (losses["masked_short"] + losses["masked_long"]) / 2
        assert bool(losses["loss"] > masked + 1e-3) == training
    losses = objective.train()(batch)
    masked = (losses["masked_short"] + losses["masked_long"]).detach() / 2
    (losses["loss"] - masked).backward()
    assert next(objective.student.backbone.parameters()).grad.abs().sum() > 0
    with pytest.raises((ConfigError, UsageError), match="no effect with objective=labels"):
        tiny(tmp_path, "sigreg=1", "objective=labels")


def test_the_average_equals_the_encoder_where_there_is_no_latent_target(tmp_path):
    task = ShapesPretrainTask.open(tiny(tmp_path, "objective=pixels"))
    objective = task.build(torch.device("cpu"))
    with torch.no_grad():
        next(objective.student.backbone.parameters()).add_(1.0)
    task.after_step(0)
    pairs = zip(objective.target.parameters(), objective.student.backbone.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_masks_take_turns_and_the_loss_reads_few_targets(tmp_path):
    options = tiny(tmp_path, "alternate=true", "max_targets=5")
    assert [kinds_of_step(options, step) for step in (0, 1, 2)] == [
        ("short",),
        ("long",),
        ("short",),
    ]
    task = ShapesPretrainTask.open(options)
    task.build(torch.device("cpu"))
    batch = task.load(1, np.arange(8), slice(0, 8))
    assert "context_short" not in batch
    assert batch["target_long"].shape == (8, 5)
    assert (batch["target_long"].diff(dim=1) > 0).all()
    for target, context in zip(batch["target_long"], batch["context_long"], strict=True):
        assert not set(target.tolist()) & set(context.tolist())
    both = draw_masks(options, task.grid, 4, 0)
    assert {"target_short", "target_long"} <= both.keys()


def test_pixels_of_a_token_are_those_of_its_patch():
    clip = torch.arange(2 * 3 * 4 * 16 * 8, dtype=torch.float32).view(2, 3, 4, 16, 8)
    tokens = patch_pixels(clip, 2, 8)
    assert tokens.shape == (2, 4, 3 * 2 * 64)
    assert torch.equal(tokens[1, 3].view(3, 2, 8, 8), clip[1, :, 2:, 8:, :8])


def test_held_out_clips_are_of_other_textures(tmp_path):
    sources = open_shapes(tiny(tmp_path))
    assert sources.train.content_hash() != sources.held_out.content_hash()
    assert not np.array_equal(sources.train.grounds, sources.held_out.grounds)


def test_kept_clips_change_nothing_that_a_run_computes(tmp_path):
    made = run(tiny(tmp_path / "made", "steps=2"))
    kept = run(tiny(tmp_path / "kept", "steps=2", "num_clips=512", f"store={tmp_path / 'clips'}"))
    assert kept["last"]["loss"] == made["last"]["loss"]
    run(tiny(tmp_path / "made", "steps=2", f"store={tmp_path / 'clips'}"))  # no other run's data


def test_a_step_is_recorded_only_where_it_can_be_repeated(tmp_path):
    with pytest.raises(ConfigError, match="CUDA device"):
        run(tiny(tmp_path, "cuda_graph=true"))
    for word in ("accumulate=2", "augment=0.1", "sigreg=0.1"):
        with pytest.raises((ConfigError, UsageError), match="repeats it, which excludes"):
            tiny(tmp_path, "cuda_graph=true", word)


def test_explained_share_of_colour():
    colours = torch.randn(40, 6, 3)
    mixed = torch.cat([colours @ torch.randn(3, 4), (colours**2).sum(2, keepdim=True)], 2)
    mixed = mixed - mixed.mean(0)
    assert explained_share(colours, torch.randn(40, 6, 5)) < 0.2
    same = colours[:, :1].expand(-1, 6, -1)  # one position's mean is every position's
    assert explained_share(same, torch.cat([same, same**2], 2)) == pytest.approx(1, abs=1e-3)


def test_the_three_networks_of_a_run_measure_surprise(tmp_path):
    options = tiny(tmp_path / "run", "steps=2")
    run(options)
    found = load_surprise_model(tmp_path / "run")
    average = load_any(str(tmp_path / "run"), "cpu")
    clip = torch.randint(256, (2, 4, 32, 32, 3), dtype=torch.uint8)
    own = found.target_encoder(average.clip_pixels(clip))
    torch.testing.assert_close(own, average.encode_clip(clip))
    assert found.encoder.patch_embed.proj.weight.shape == (24, 3, 2, 8, 8)
    video = torch.randint(256, (8, 32, 32, 3), dtype=torch.uint8)
    (row,) = video_surprises(found, video, SurpriseConfig(num_frames=4, contexts=(2,)))
    assert row.shape == (3,)
    with pytest.raises(CheckpointError, match="no masked predictor"):
        load_surprise_model(tmp_path / "run" / "encoder.safetensors")
    with pytest.raises(ConfigError, match="knows its sizes"):
        load_surprise_model(tmp_path / "run", num_heads=2)
    run(tiny(tmp_path / "pixels", "steps=1", "objective=pixels"))
    assert not (tmp_path / "pixels" / "pretrained.safetensors").exists()
