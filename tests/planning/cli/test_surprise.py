"""`worldmodel surprise` from a folder of videos to scores and pictures."""

import json
from pathlib import Path

import torch

from planning.cli.app import main
from worldmodel.data.writers.video import write_video

FILE = Path(__file__).parents[2] / "golden" / "perception" / "vjepa1_surprise_layout.pth.tar"


def test_a_folder_of_pairs_is_scored(tmp_path, capsys):
    generator = torch.Generator().manual_seed(0)
    for name in ("P_Gravity/0", "IP_Gravity/0", "P_Inertia/0", "IP_Inertia/0", "P_Inertia/1"):
        frames = torch.randint(256, (20, 64, 80, 3), dtype=torch.uint8, generator=generator)
        write_video(tmp_path / "level2" / f"{name}.mp4", frames.numpy())
    words = [f"data={tmp_path}", f"model={FILE}", "num_heads=2", "predictor_heads=2"]
    words += ["image_size=48", "step=1", f"out={tmp_path}/out", "pictures=1", "device=cpu"]
    assert main(["surprise", "benchmark=grasp", *words]) == 0
    text = capsys.readouterr().out
    assert "filtered" in text
    assert "rejected level2/P_Inertia/1.mp4" in text
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(summary["scores"]["context 2"]) == ["all", "Gravity", "Inertia"]
    both = summary["scores"]["filtered"]["all"]
    assert both["num_pairs"] == 2
    low, high = both["relative_mean_ci95"]
    assert low <= both["relative_mean"] <= high
    assert high - low > 50
    pairs = json.loads((tmp_path / "out" / "pairs.json").read_text())["pairs"]
    assert [len(row) for row in pairs[0]["possible"]] == [3] * 5
    assert [p.name for p in sorted((tmp_path / "out").glob("*.png"))] == ["pair_0000.png"]
    low = [*words[:-3], f"out={tmp_path}/low", "pictures=0", "precision=bfloat16"]
    assert main(["surprise", "benchmark=grasp", *low]) == 0
    half = json.loads((tmp_path / "low" / "pairs.json").read_text())["pairs"]
    for a, b in zip(half, pairs, strict=True):
        assert a["possible"] != b["possible"]
        torch.testing.assert_close(
            torch.tensor(a["possible"]), torch.tensor(b["possible"]), rtol=3e-2, atol=0
        )
    capsys.readouterr()
    words += ["contexts=4,6", "growing_start=true"]
    assert main(["surprise", "benchmark=grasp", *words]) == 0
    assert "filtered" not in capsys.readouterr().out


def test_wrong_options_are_named(tmp_path, capsys):
    assert main(["surprise", "benchmark=inflevel", f"data={tmp_path}"]) == 2
    assert "pairs=FILE.csv" in capsys.readouterr().err
    assert main(["surprise", "benchmark=grasp", "data=nowhere"]) == 2
    assert "is not a folder" in capsys.readouterr().err
    words = ["surprise", "benchmark=grasp", f"data={tmp_path}"]
    assert main([*words, "model=random:vit_base"]) == 2
    assert "without a masked predictor" in capsys.readouterr().err
    assert main(words) == 2
    assert "level2/P_Gravity/0.mp4" in capsys.readouterr().err
    for kind in ("P_A", "IP_A"):
        frames = torch.zeros(4, 16, 16, 3, dtype=torch.uint8)
        write_video(tmp_path / "level2" / kind / "0.mp4", frames.numpy())
    (tmp_path / "metrics.jsonl").touch()  # a run that has not ended
    assert main([*words, f"model={tmp_path}"]) == 2
    assert "has no pretrained.safetensors" in capsys.readouterr().err
