"""Action anticipation: golden arrays, frames, probe files, loss and metric."""

import copy
import importlib
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from worldmodel.data.writers.video import write_video
from worldmodel.errors import CheckpointError, ConfigError, DataError, ShapeError
from worldmodel.models.config import EncoderConfig, MaskedPredictorConfig, ProbeConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.masked_predictor import MaskedPredictor
from worldmodel.perception.anticipation.epic_kitchens import (
    Action,
    AnticipationClip,
    class_order,
    known_actions,
    read_actions,
)
from worldmodel.perception.anticipation.evaluation import Networks, read_clip, score_probes
from worldmodel.perception.anticipation.pipeline import (
    AnticipationProbe,
    FutureConfig,
    anticipation_tokens,
    class_mean_recall,
    focal_loss,
    future_ids,
    load_anticipation_probes,
)

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "perception"
ACTION = Action("P01_01", 600, 900, 3, 5)


@pytest.mark.parametrize(
    "name",
    ["ek_classes", "ek_validation", "ek_training", "anticipation", "anticipation_probe", "recall"],
)
def test_golden(name, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    golden = importlib.import_module("agreement_golden").Golden(GOLDEN, "golden_perception")
    family = getattr(importlib.import_module("agreement_surprise"), name)
    with torch.no_grad():
        for array, found, wanted in family(golden):
            torch.testing.assert_close(
                found, wanted, atol=2e-5, rtol=0, check_dtype=False, msg=lambda m, a=array: a + m
            )


def test_only_the_released_anchor_shows_the_action():
    task, released = AnticipationClip(), AnticipationClip(as_released=True)
    drawn = [clip.draw(random.Random(0)) for clip in (task, released)]
    assert drawn == [(1.0, 1.0), (1.0, 0.0)]
    frames = [c.frames(ACTION, 59.94, *d) for c, d in zip((task, released), drawn, strict=True)]
    assert frames[0].max() < ACTION.start - 59
    assert ACTION.start < frames[1].max() < ACTION.stop - 59
    assert len(frames[0]) == 32
    with pytest.raises(ConfigError, match="fps=8"):
        task.frames(ACTION, 5.0, 1.0, 1.0)
    with pytest.raises(ConfigError, match="low <= high"):
        AnticipationClip(seconds=(2.0, 1.0))


def test_actions_outside_the_training_classes_are_left_out():
    classes = class_order([ACTION, Action("P02", 1, 2, 3, 6)])
    other = Action("P03", 1, 2, 4, 5)
    assert known_actions([other, ACTION], classes) == [ACTION]
    labels = classes.labels(ACTION)
    ids = [x[i] for x, i in zip((classes.verbs, classes.nouns), labels, strict=False)]
    assert (*ids, classes.actions[labels[2]]) == (3, 5, (3, 5))
    with pytest.raises(DataError, match="verb 4 with noun 5"):
        classes.labels(other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video_id,start_frame\n", "no column stop_frame, verb_class"),
        ("video_id,start_frame,stop_frame,verb_class,noun_class\nP,1,2,x,3\n", "row 1.*integers"),
        ("video_id,start_frame,stop_frame,verb_class,noun_class\nP,3,2,1,1\n", "frames 3 to 2"),
    ],
)
def test_damaged_annotations_are_named(tmp_path, text, message):
    path = tmp_path / "train.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_actions(path)
    if "no column" not in message:
        with pytest.raises(DataError, match="can be used"):
            read_actions(path, {})
        path.write_text(text + "P,2,3,1,1\n", encoding="utf-8")
        rejected: dict[str, str] = {}
        assert read_actions(path, rejected) == [Action("P", 2, 3, 1, 1)]
        assert rejected.keys() == {"train.csv:1"}
    with pytest.raises(DataError, match="cannot be read"):
        read_actions(tmp_path / "none.csv")


def test_a_row_that_repeats_another_counts_once(tmp_path):
    path = tmp_path / "validation.csv"
    row = "P01_01_0,P01_01,2,3,1,1\n"
    head = "narration_id,video_id,start_frame,stop_frame,verb_class,noun_class\n"
    path.write_text(head + row + row + row.replace("_0,", "_1,"), encoding="utf-8")
    rejected: dict[str, str] = {}
    assert len(read_actions(path, rejected)) == 2
    assert "P01_01_0 is in row 1 as well" in rejected["validation.csv:2"]


def networks():
    torch.manual_seed(0)
    sizes = {"embed_dim": 24, "depth": 1, "num_heads": 2}
    encoder = VisionTransformer(EncoderConfig(image_size=(32, 48), num_frames=4, **sizes))
    predictor = MaskedPredictorConfig(encoder_dim=24, out_dim=24, num_mask_tokens=1, **sizes)
    return encoder.eval(), MaskedPredictor(predictor).eval()


@torch.no_grad()
def test_tokens_of_clips_that_are_not_square():
    encoder, predictor = networks()
    pixels, seconds = torch.randn(2, 3, 4, 32, 48), torch.tensor([0.25, 1.0])
    tokens = anticipation_tokens(encoder, predictor, pixels, seconds)
    assert tokens.shape == (2, 2 * 6 + 6, 24)
    alone = anticipation_tokens(encoder, predictor, pixels[1:], seconds[1:])
    torch.testing.assert_close(tokens[1:], alone, atol=1e-5, rtol=0)
    only = anticipation_tokens(encoder, predictor, pixels, seconds, FutureConfig(parts="encoder"))
    torch.testing.assert_close(only, tokens[:, :12], atol=1e-5, rtol=0)
    assert future_ids(seconds, 12, 6, 2, FutureConfig()).tolist()[1] == list(range(36, 42))
    with pytest.raises(ShapeError, match="2 clips"):
        anticipation_tokens(encoder, predictor, pixels, seconds[:1])
    config = FutureConfig(num_output_frames=3)
    with pytest.raises(ConfigError, match="multiple of 2"):
        anticipation_tokens(encoder, predictor, pixels, seconds, config)


def test_probe_files_with_several_heads_and_one_target(tmp_path):
    config = ProbeConfig(embed_dim=24, num_heads=2, depth=2, num_queries=1)
    probes = [AnticipationProbe(config, {"action": 5}).eval() for _ in range(2)]
    path = tmp_path / "probe.pt"
    states = [{f"module.{k}": v for k, v in p.state_dict().items()} for p in probes]
    torch.save({"classifiers": states}, path)
    tokens = torch.randn(2, 6, 24)
    for loaded, probe in zip(load_anticipation_probes(path, 2), probes, strict=True):
        torch.testing.assert_close(loaded(tokens)["action"], probe(tokens)["action"])
    torch.save({"classifiers": [{"linear.weight": torch.zeros(2, 2)}]}, path)
    with pytest.raises(CheckpointError, match="not an anticipation probe"):
        load_anticipation_probes(path)
    torch.save({"encoder": {}}, path)
    with pytest.raises(CheckpointError, match="no list `classifiers`"):
        load_anticipation_probes(path)


def test_focal_loss_without_focus_is_half_the_cross_entropy():
    logits, labels = torch.tensor([[0.0, 0.0, 3.0]]), torch.tensor([2])
    loss = focal_loss(logits, labels, alpha=0.5, gamma=0.0)
    assert float(loss) == pytest.approx(0.5 * (2 * math.log(2) + math.log1p(math.exp(-3))))


def test_recall_is_a_mean_over_the_classes_that_occur():
    logits = torch.eye(4)[[0, 0, 0, 1]] * 9
    found = class_mean_recall(logits, torch.tensor([0, 0, 2, 1]), k=1)
    assert found.mean_class_recall == pytest.approx(200 / 3)
    assert (found.accuracy, found.num_clips, found.num_classes) == (75, 4, 3)
    with pytest.raises(ConfigError, match="1 to 4 classes"):
        class_mean_recall(logits, torch.tensor([0, 0, 2, 1]))
    with pytest.raises(ShapeError, match="no clip"):
        class_mean_recall(logits[:0], torch.zeros(0, dtype=torch.long), k=1)


def test_probes_are_scored_on_videos_and_each_unreadable_clip_is_named(tmp_path):
    encoder, predictor = networks()
    write_video(tmp_path / "P01" / "videos" / "P01_01.MP4", frames(90), header_fps=16)
    write_video(tmp_path / "P02" / "P02_07.MP4", frames(60), header_fps=16)
    rows = [("P01_01", 60, 80, 1, 2), ("P01_01", 8, 30, 1, 3), ("P02_07", 50, 58, 2, 2)]
    write_video(tmp_path / "P03" / "P03_01.MP4", frames(60), header_fps=2)
    lost = [
        *(Action("P02_07", 400, 410, 2, 2), Action("P09_01", 50, 60, 1, 2)),
        *(Action("P03_01", 50, 60, 1, 2), Action("../P01/P01_01", 60, 80, 1, 2)),
        Action("P" * 5000 + "_1", 60, 80, 1, 2),
    ]
    actions = [Action(*row) for row in rows] + lost
    classes = class_order(actions)
    config = ProbeConfig(embed_dim=24, num_heads=2, depth=1, num_queries=3)
    probe = AnticipationProbe(config, {"verb": 2, "noun": 2, "action": 3}).eval()
    keep = tmp_path / "scored.jsonl"

    def scored(predictor):
        return score_probes(
            Networks(encoder=encoder, predictor=predictor, probes=[probe, probe]),
            actions,
            classes,
            tmp_path,
            AnticipationClip(num_frames=4),
            image_size=(32, 32),
            keep=keep,
        )

    found = scored(predictor)
    lines = keep.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 3
    keep.write_text("".join(lines[:3]))  # as if the run had been stopped in its second batch
    assert scored(predictor) == found
    unusable = copy.deepcopy(predictor)
    unusable.forward = None
    assert scored(unusable) == found
    assert [list(recalls) for recalls in found.recalls] == [["verb", "noun", "action"]] * 2
    assert found.recalls[0]["action"].num_clips == 3
    assert found.recalls[0]["action"].mean_class_recall == 100  # three classes, five guesses
    assert len(found.rejected) == len(lost)
    assert "at most the video's 2" in found.rejected["P03_01 50-60"]
    assert "path_outside" in found.rejected["../P01/P01_01 60-80"]
    for value in (None, "x", [], [1], [{}], [{"verb": "x"}] * 2, [{"verb": True}]):
        odd = json.dumps({**json.loads(lines[1]), "value": value}) + "\n"
        keep.write_text("".join([lines[0], odd, *lines[2:]]))
        assert scored(predictor) == found
    assert "has 60 frames" in found.rejected["P02_07 400-410"]
    with pytest.raises(DataError, match="none of 1 clips"):
        score_probes(
            Networks(encoder=encoder, predictor=predictor, probes=[probe]),
            lost[1:2],
            classes,
            tmp_path,
            AnticipationClip(num_frames=4),
            image_size=(32, 32),
        )


def frames(count):
    return np.random.default_rng(0).integers(0, 256, (count, 64, 80, 3), dtype=np.uint8)


def test_a_clip_before_the_first_frame_repeats_it(tmp_path):
    write_video(tmp_path / "P01" / "P01_01.MP4", frames(30), header_fps=16)
    folder = tmp_path / "P01"
    (folder / "P01_01.MP4").rename(folder / "P01_01.mp4")  # as scaled copies often are
    clip = AnticipationClip(num_frames=4)
    found = read_clip(tmp_path, Action("P01_01", 20, 25, 0, 0), clip, (1.0, 1.0))
    assert found[0].equal(found[1])
    assert not found[1].equal(found[3])
