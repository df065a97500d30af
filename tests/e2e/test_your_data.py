"""The commands of docs/your-data.md, run as written on a LeRobot and an RLDS data set."""

import json
import re
import shlex
from pathlib import Path

import pytest

from planning.cli.app import main
from tests.worldmodel.data.other_layouts import write_rlds
from tests.worldmodel.data.own_names import write_own_lerobot
from worldmodel.data.readers import lerobot_list
from worldmodel.data.writers.synthetic import random_states

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "your-data.md"
NAMES = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
REAL = ROOT.parent / "shared" / "data"
SHORT = {
    "steps": "4",
    "eval_every": "4",
    "save_every": "4",
    "warmup": "1",
    "decay": "1",
    "batch_size": "2",
    "val_clips": "2",
    "episodes": "1",
}
"""Lengths of the test in place of the page's; every other word is run as it is written."""
FAST = ["samples=8", "iterations=1", "elites=2"]
"""Added to commands that plan."""


def commands(data: str) -> list[list[str]]:
    """Commands of the page; the first steps are the same for both kinds of data sets."""
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = [shlex.split(line)[1:] for line in lines]
    if data == "my_lerobot":
        return [words for words in found if "root=my_rlds" not in words]
    own = [words for words in found if "root=my_lerobot" not in words]
    return [[w.replace("runs/index_rlds", "runs/index") for w in words] for words in own]


def shortened(words: list[str]) -> list[str]:
    keys = [word.partition("=")[0] for word in words]
    cut = [
        f"{key}={SHORT[key]}" if key in SHORT else word
        for key, word in zip(keys, words, strict=True)
    ]
    if words[0] == "train":
        return [*cut, "plan_clips=0", "threads=1"]
    if words[0] in ("eval", "drive"):
        return [*cut, *FAST, *(["baselines=false"] if words[0] == "eval" else [])]
    return cut


def provide_sets(folder: Path) -> None:
    """The sets that lerobot and tensorflow-datasets wrote, or else like ones."""
    if REAL.is_dir():
        (folder / "my_lerobot").symlink_to(REAL / "lerobot_v3_by_lerobot_0.6.1")
        (folder / "my_rlds").symlink_to(REAL / "rlds_by_tfds")
        return
    episodes = [random_states(60, seed) for seed in range(3)]
    write_own_lerobot(
        folder / "my_lerobot", episodes, column=lambda s: (s, s), names=NAMES, image_views=True
    )
    write_rlds(folder / "my_rlds", episodes)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("data", ["my_lerobot", "my_rlds"])
def test_the_page_leads_from_data_to_a_drive(tmp_path, monkeypatch, capsys, data):
    provide_sets(tmp_path)
    for cached in (lerobot_list.read_info, lerobot_list.list_episodes):
        cached.cache_clear()
    monkeypatch.chdir(tmp_path)
    for words in commands(data):
        assert main(shortened(words)) == 0, (words, capsys.readouterr().err)
    assert "its actions" in (tmp_path / "runs/mine/training.html").read_text()
    info = json.loads((tmp_path / "runs/drive_lerobot/meta/info.json").read_text())
    assert info["total_episodes"] == 1
    if data == "my_lerobot":
        assert (tmp_path / "runs/view/data.html").is_file()
