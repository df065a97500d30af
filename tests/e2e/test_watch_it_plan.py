"""The commands of docs/watch-it-plan.md, run as written with fewer episodes and samples."""

import re
import shlex
from pathlib import Path

from planning.cli.app import main

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "watch-it-plan.md"
SEARCH = ["samples=8", "iterations=1", "elites=2"]
SHORT = {
    "demo": ["episodes=1", "workers=1", "skill_samples=8", "skill_iterations=1"],
    "eval": ["episodes=1", "workers=1", "baselines=false"],
    "plan": [],
    "collect": ["episodes=2", "length=6", "workers=1"],
    "inspect": ["count=8", "fit_steps=5", "rollout_clips=0"],
}
"""Options added to a command, or in place of the page's."""


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return [shlex.split(line)[1:] for line in "".join(blocks).splitlines()]


def shortened(words: list[str]) -> list[str]:
    more = [*SHORT[words[0]], *(SEARCH if words[0] in ("eval", "plan") else [])]
    if "sub_goals=one" in words:
        more = [*SHORT["eval"], *SHORT["demo"][2:]]
    replaced = {word.partition("=")[0] for word in more}
    return [w for w in words if w.partition("=")[0] not in replaced] + more


def test_the_page_runs_from_an_empty_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for words in commands():
        assert main(shortened(words)) == 0, (words, capsys.readouterr().err)
    for page in re.findall(r"`(runs/[\w/]+\.html)`", PAGE.read_text()):
        assert (tmp_path / page).is_file()
    assert "cm" in capsys.readouterr().out
