"""`worldmodel anticipate train` end to end: annotations as published, small real videos."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from planning.cli.app import main, parse_options
from worldmodel.data.writers.video import write_video
from worldmodel.errors import ConfigError, DataError
from worldmodel.perception.anticipation.config import AnticipateTrainOptions
from worldmodel.perception.anticipation.epic_kitchens import Action, AnticipationClip
from worldmodel.perception.anticipation.pipeline import AnticipationProbe, trained_parts
from worldmodel.perception.anticipation.training import (
    divide_videos,
    require_readable,
    summed_focal_loss,
    train_anticipation,
)
from worldmodel.perception.heads.grid import HeadGrid

MODEL = Path(__file__).parents[2] / "golden" / "perception" / "vjepa2_layout.pt"
COLOURS = np.random.default_rng(5).integers(0, 256, (8, 3))
SIZES = ["num_heads=1", "predictor_heads=2", "probe_heads=4", "image_size=48", "num_frames=4"]
GAP, LENGTH = 20, 40
"""Frames of a colour that tells the action, and of the action itself."""


def write_kitchen(root: Path, videos: int) -> None:
    """Write videos in which a colour comes before each of eight actions, in a drawn order."""
    draw = np.random.default_rng(0)
    rows = ["narration_id,video_id,start_frame,stop_frame,verb_class,noun_class"]
    for number in range(videos):
        name, frames = f"P{number:02d}_01", []
        for action in draw.permutation(8):
            rows.append(
                f"{name}_{action},{name},{len(frames) + GAP},{len(frames) + LENGTH - 1},"
                f"{action // 4},{10 + action % 4}"
            )
            still = np.broadcast_to(COLOURS[action], (LENGTH, 48, 64, 3)).astype(float)
            frames.extend((still + draw.normal(0, 12, still.shape)).clip(0, 255).astype(np.uint8))
        path = root / name.split("_")[0] / f"{name}.MP4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, np.stack(frames), header_fps=16)
    strange = "s,P00_01,30,40,1,999"
    (root / "EPIC_100_validation.csv").write_text("\n".join([rows[0], *rows[-8:], strange]))
    rows = rows[:-8]
    rows += ["x,P77_01,30,40,0,10", "y,P00_01,90000,90010,0,11", "z,P78_01,1,9,0,10"]
    rows += ["w,P00_01,9,1,0,10"]
    (root / "P78").mkdir()
    (root / "P78" / "P78_01.MP4").write_bytes(b"\0" * 80)
    (root / "EPIC_100_train.csv").write_text("\n".join(rows))


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    root = tmp_path_factory.mktemp("kitchen")
    write_kitchen(root, 4)
    return root


def words(kitchen, out, *more):
    inputs = [f"annotations={kitchen}", f"videos={kitchen}", f"model={MODEL}", f"out={out}"]
    options = ["device=cpu", "depth=2", "epochs=2", "batch_size=8", "encode_batch=4", *more]
    return ["anticipate", "train", *inputs, *SIZES, *options]


@pytest.fixture(scope="module")
def run(kitchen):
    assert main(words(kitchen, kitchen / "run", "save_every=1")) == 0
    return kitchen / "run"


def test_training_learns_and_names_what_it_cannot_read(run):
    found = json.loads((run / "summary.json").read_text())
    assert (found["heads"], len(found["held_out"])) == (20, 20)
    assert found["classes"] == {"verb": 2, "noun": 4, "action": 8}
    assert found["trained_on"] + found["chosen_on"] + 1 == 3 * 8 + 1  # in videos that open
    reasons = found["rejected"]["train"] | found["rejected"]["held out"]
    malformed = {name for name in reasons if name.startswith("EPIC_100_train.csv:")}
    assert set(reasons) - malformed == {"P77_01 30-40", "P00_01 90000-90010", "P78_01 1-9"}
    assert [reasons[name].endswith("frames 9 to 1") for name in malformed] == [True]
    assert "there is no" in reasons["P77_01 30-40"]
    curves = json.loads((run / "curves.json").read_text())
    assert min(curves[1]["loss"]) < min(curves[0]["loss"])


def test_anticipate_scores_the_trained_file(run, kitchen, capsys):
    inputs = [f"annotations={kitchen}", f"videos={kitchen}", f"model={MODEL}", "device=cpu"]
    for file, count in (("probe.pt", 1), ("heads.pt", 20)):
        out = f"out={kitchen}/scored-{count}"
        assert main(["anticipate", *inputs, *SIZES, f"probe={run}/{file}", out]) == 0
        found = json.loads((kitchen / f"scored-{count}" / "summary.json").read_text())
        assert len(found["probes"]) == count
        assert found["probes"][0]["action"]["num_clips"] == 8
        assert (found["actions_unknown_in_training"], found["unknown"]) == (1, ["P00_01 30-40"])
    assert "probe 19 action mean class recall@5" in capsys.readouterr().out


def test_a_killed_run_resumes_bit_for_bit(run, kitchen, monkeypatch):
    update, calls = HeadGrid.update, []

    def killed(self, *arguments):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return update(self, *arguments)

    again = words(kitchen, kitchen / "killed", "save_every=1")
    monkeypatch.setattr(HeadGrid, "update", killed)
    with pytest.raises(KeyboardInterrupt):
        train_anticipation(parse_options("anticipate train", AnticipateTrainOptions, again[2:]))
    monkeypatch.setattr(HeadGrid, "update", update)
    assert main(again) == 0
    whole, resumed = (
        torch.load(out / "heads.pt", weights_only=True)["classifiers"]
        for out in (run, kitchen / "killed")
    )
    for one, other in zip(whole, resumed, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    summaries = [
        json.loads((out / "summary.json").read_text()) for out in (run, kitchen / "killed")
    ]
    assert summaries[0]["rejected"] == summaries[1]["rejected"]


@pytest.mark.parametrize("more", [["parts=predictor", "augment=false"], ["precision=bfloat16"]])
def test_the_released_anchor_and_other_tokens_train(kitchen, tmp_path, more, monkeypatch):
    more = [*more, "as_released=true", "lr=1e-3", "weight_decay=0.01", "epochs=1", "depth=1"]
    assert main(words(kitchen, tmp_path, *more)) == 0
    found = json.loads((tmp_path / "summary.json").read_text())
    assert (found["heads"], found["options"]["as_released"]) == (1, True)
    assert trained_parts(tmp_path / "probe.pt") == found["options"]["parts"]
    widths = []
    read = AnticipationProbe.forward
    monkeypatch.setattr(
        AnticipationProbe, "forward", lambda p, x: (widths.append(x.shape[1]), read(p, x))[1]
    )
    inputs = [f"annotations={kitchen}", f"videos={kitchen}", f"model={MODEL}", "device=cpu"]
    scored = ["anticipate", *inputs, *SIZES, f"probe={tmp_path}/probe.pt", "max_clips=2"]
    assert main([*scored, f"out={tmp_path}/scored"]) == 0
    assert main([*scored, f"out={tmp_path}/encoder", "parts=encoder"]) == 0
    predicted, seen = 9, 2 * 9  # tokens of 48 px: one tubelet ahead, and two of the clip
    own = predicted if found["options"]["parts"] == "predictor" else seen + predicted
    assert widths == [own, seen]


def test_the_loss_adds_the_targets_that_a_probe_has():
    logits = {"verb": torch.randn(2, 3), "action": torch.randn(2, 4)}
    labels = torch.tensor([[1, 0, 3], [2, 1, 0]])
    parts = [summed_focal_loss({name: value}, labels) for name, value in logits.items()]
    torch.testing.assert_close(summed_focal_loss(logits, labels), sum(parts))


def test_wrong_inputs_are_named(tmp_path):
    with pytest.raises(ConfigError, match="annotations is empty"):
        AnticipateTrainOptions(videos="v")
    with pytest.raises(ConfigError, match="low <= high"):
        AnticipateTrainOptions(annotations="a", videos="v", seconds=(2.0, 1.0))
    with pytest.raises(DataError, match="1 usable videos, which leave none"):
        divide_videos([Action("P01_01", 1, 2, 0, 0)], 0.1, 0)
    clip = AnticipationClip(num_frames=4)
    with pytest.raises(DataError, match=r"none of 1 held-out clips .* there is no"):
        require_readable([Action("P01_01", 1, 2, 0, 0)], tmp_path, clip)
    actions = [Action(f"P{i % 5:02d}_01", i, i + 1, 0, 0) for i in range(20)]
    fitted, held = divide_videos(actions, 0.3, 0)
    assert len(held) == 8
    assert not {action.video for action in fitted} & {action.video for action in held}
