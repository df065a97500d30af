"""`benchmarks/one_goal_phase3.py`: its commands compose, in order, and are not run twice."""

import sys
from pathlib import Path

import pytest

from planning.cli.app import compose_options

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """Run the script with commands that only leave their result, and return a function for it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import one_goal_phase3

    made = []

    def run(words, *, check):
        assert check
        name, *options = words[3:]
        assert compose_options(name, options) is not None
        out = Path(next(word for word in options if word.startswith("out="))[4:])
        out.mkdir(parents=True, exist_ok=True)
        (out / "summary.json").write_text("{}")
        made.append((name, {key: value for key, _, value in (w.partition("=") for w in options)}))

    monkeypatch.setattr(one_goal_phase3.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["one_goal_phase3.py", "start.safetensors", str(tmp_path)])

    def again():
        made.clear()
        one_goal_phase3.main()
        return list(made)

    return again


def test_all_sets_are_recorded_before_two_runs_that_follow_each_other(commands, tmp_path):
    made = commands()
    names = [name for name, _ in made]
    assert names == ["collect"] * (len(names) - 2) + ["train"] * 2
    recorded = {options["out"] for _, options in made[:-2]}
    (_, first), (_, second) = made[-2:]
    assert first["encoder"] == "start.safetensors"
    assert second["encoder"] == str(tmp_path / "first" / "model.safetensors")
    for run in (first, second):
        used = [run["data"], run["val"], *run["more_data"].split(",")]
        assert set(used) <= recorded
        shares = [float(share) for share in run["more_shares"].split(",")]
        assert len(shares) == len(used) - 2
        assert sum(shares) < 1
    assert [name for name, _ in commands()] == ["train", "train"]


def test_no_two_sets_share_a_seed(commands):
    sets = [options for name, options in commands() if name == "collect"]
    seeds = [
        int(options["seed"]) + index
        for options in sets
        for index in range(int(options["episodes"]))
    ]
    assert len(seeds) == len(set(seeds)) == 13_020
