"""`benchmarks/one_goal_predictor.py`: its commands compose, in order, and are not run twice."""

import sys
from pathlib import Path

import pytest

from planning.cli.app import compose_options

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """Run the script with commands that only leave their result, and return a function for it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import one_goal_predictor

    made = []

    def run(words, *, check):
        assert check
        name, *options = words[3:]
        assert compose_options(name, options) is not None
        out = Path(next(word for word in options if word.startswith("out="))[4:])
        out.mkdir(parents=True, exist_ok=True)
        (out / "summary.json").write_text("{}")
        made.append((name, {key: value for key, _, value in (w.partition("=") for w in options)}))

    monkeypatch.setattr(one_goal_predictor.subprocess, "run", run)

    def of(phase):
        made.clear()
        monkeypatch.setattr(sys, "argv", ["", str(phase), "start.safetensors", str(tmp_path)])
        one_goal_predictor.main()
        return list(made)

    return of


@pytest.mark.parametrize(("phase", "runs"), [(3, ["first", "second"]), (4, ["third"])])
def test_all_sets_are_recorded_before_the_runs_that_follow_each_other(
    commands, tmp_path, phase, runs
):
    made = commands(phase)
    names = [name for name, _ in made]
    assert names == ["collect"] * (len(names) - len(runs)) + ["train"] * len(runs)
    recorded = {options["out"] for name, options in made if name == "collect"}
    start = "start.safetensors"
    for run, (_, options) in zip(runs, made[-len(runs) :], strict=True):
        assert options["encoder"] == start
        start = str(tmp_path / run / "model.safetensors")
        used = [options["data"], options["val"], *options["more_data"].split(",")]
        assert set(used) <= recorded
        shares = [float(share) for share in options["more_shares"].split(",")]
        assert len(shares) == len(used) - 2
        assert sum(shares) < 1
    assert [name for name, _ in commands(phase)] == ["train"] * len(runs)


@pytest.mark.parametrize(("phase", "episodes"), [(3, 13_020), (4, 8_520)])
def test_no_two_sets_share_a_seed(commands, phase, episodes):
    sets = [options for name, options in commands(phase) if name == "collect"]
    seeds = [
        int(options["seed"]) + index
        for options in sets
        for index in range(int(options["episodes"]))
    ]
    assert len(seeds) == len(set(seeds)) == episodes


def test_a_set_that_phases_share_is_recorded_once(commands):
    commands(3)
    assert [o["out"].rsplit("/", 1)[1] for n, o in commands(4) if n == "collect"] == ["carry_pick"]


def test_an_unknown_phase_is_refused(commands):
    with pytest.raises(SystemExit):
        commands(5)
