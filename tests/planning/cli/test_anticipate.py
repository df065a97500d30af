"""`worldmodel anticipate` from annotations and videos to mean class recall."""

import json
from pathlib import Path

import numpy as np
import torch

from planning.cli.app import main
from worldmodel.data.writers.video import write_video
from worldmodel.models.config import ProbeConfig
from worldmodel.perception.anticipation.pipeline import AnticipationProbe

FILE = Path(__file__).parents[2] / "golden" / "perception" / "vjepa2_layout.pt"
HEADER = "video_id,start_frame,stop_frame,verb_class,noun_class\n"
TRAIN = "P01_01,1,2,0,5\nP01_01,3,4,1,5\nP01_01,5,6,1,6\n"


def made_set(folder, classes):
    frames = np.random.default_rng(0).integers(0, 256, (80, 64, 80, 3), dtype=np.uint8)
    write_video(folder / "P02" / "P02_01.MP4", frames, header_fps=16)
    (folder / "EPIC_100_train.csv").write_text(HEADER + TRAIN, encoding="utf-8")
    rows = "P02_01,40,60,0,5\nP02_01,60,70,1,6\nP02_01,30,40,0,6\nP03_01,40,60,1,5\n"
    rows += "P02_01,fifty,60,0,5\nP03_01,40,60,0,5\n"
    (folder / "EPIC_100_validation.csv").write_text(HEADER + rows, encoding="utf-8")
    torch.manual_seed(0)
    config = ProbeConfig(embed_dim=16, num_heads=4, depth=2, num_queries=3)
    states = [AnticipationProbe(config, classes).state_dict() for _ in range(2)]
    torch.save({"classifiers": states}, folder / "probe.pt")
    words = [f"annotations={folder}", f"videos={folder}", f"probe={folder}/probe.pt"]
    words += [f"model={FILE}", "num_heads=1", "predictor_heads=2", "probe_heads=4", "device=cpu"]
    return ["anticipate", *words, "image_size=48", "num_frames=8", f"out={folder}/out"]


def test_each_clip_is_scored_once_and_the_missing_video_is_named(tmp_path, capsys):
    words = made_set(tmp_path, {"verb": 2, "noun": 2, "action": 3})
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "rejected P03_01 40-60" in text
    assert "rejected P03_01 40-60, action" in text
    assert "rejected EPIC_100_validation.csv:5" in text
    assert "1 actions have a verb and noun that training does not have" in text
    assert "\n3 rejected" in text
    assert "probe 1 action mean class recall@5 100.0 % (2 clips, 2 classes)" in text
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [probe["verb"]["num_clips"] for probe in summary["probes"]] == [2, 2]
    low = [*words, "precision=bfloat16", f"out={tmp_path}/low"]
    assert main(low) == 0
    half = json.loads((tmp_path / "low" / "summary.json").read_text())
    assert half["probes"] == summary["probes"]
    capsys.readouterr()
    assert main([*words, "as_released=true", "max_clips=1", "seconds=0.5"]) == 0
    assert "(1 clips, 1 classes)" in capsys.readouterr().out


def test_a_probe_of_other_classes_is_refused(tmp_path, capsys):
    words = made_set(tmp_path, {"verb": 97, "noun": 300, "action": 3568})
    assert main(words) == 2
    assert "97 verb classes, the training annotations 2" in capsys.readouterr().err
