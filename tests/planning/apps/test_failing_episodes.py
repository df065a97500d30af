"""Exceptions of a user's code in the middle of an episode cost that episode only."""

import itertools
import json
import os
import signal
import sys

import gymnasium
import numpy as np
import pytest

from envs.gym_env import GymGoalEnv
from planning.cli.app import main
from planning.rollout import Episode, describe_error, episode_seed, fail_by
from robot.arm import ArmSpec

FAILS = episode_seed(0, 1)
"""Seed of the second episode."""
ODD = {"raises": ValueError("odd\nworld"), "exits": SystemExit(0)}


class Puck(gymnasium.Env):
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float32)
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - Gymnasium's name
    render_mode = "rgb_array"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place_m = self.np_random.uniform(0.2, 0.8, 2)
        return self.place_m, {}

    def step(self, action):
        self.place_m = np.clip(self.place_m + 0.05 * np.asarray(action), 0.05, 0.95)
        return self.place_m, 0.0, False, False, {}

    def render(self):
        return np.full((64, 64, 3), 255 * self.place_m.mean(), np.uint8)


class Sound(GymGoalEnv):
    arm_spec = ArmSpec()
    goal_steps = 4

    def make_env(self):
        return Puck()

    def position(self):
        return np.array([*self.env.place_m, *[0.0] * 5])


class Odd(Sound):
    """Raises in step 3 of the second episode, and must not be used again."""

    error = ODD["raises"]
    seeds = (FAILS, 1)  # of eval and of collect
    broken = False

    def reset(self, *, seed=None, options=None):
        assert not self.broken
        return super().reset(seed=seed, options=options)

    def is_due(self):
        plays_goal = self.goal is None and self.episode_seed >= FAILS
        return self.steps == 2 and self.episode_seed in self.seeds and not plays_goal

    def fail(self):
        self.broken = True
        raise type(self.error)(*self.error.args)

    def step(self, action):
        if self.is_due():
            self.fail()
        return super().step(action)


class Leaving(Odd):
    error = ODD["exits"]


class Always(Odd):
    seeds = range(10_000_000)


class Killed(Odd):
    def fail(self):
        os.kill(os.getpid(), signal.SIGKILL)


HERE = f"{__name__}:"
EVAL = ["eval", "episodes=3", "samples=8", "iterations=1", "elites=2", "stretch=1", "device=cpu"]


def evaluated(kind, out, *words):
    status = main([*EVAL, f"environment={HERE}{kind}", f"out={out}", *words])
    rows = [json.loads(row) for row in (out / "episodes.jsonl").read_text().splitlines()]
    return status, json.loads((out / "summary.json").read_text()), rows


@pytest.mark.parametrize("kind", ["Odd", "Leaving"])
def test_one_episode_fails_with_its_reason_and_the_others_are_as_without_it(kind, tmp_path, capsys):
    status, summary, rows = evaluated(kind, tmp_path / "odd", "workers=1")
    printed = capsys.readouterr()
    _, _, sound = evaluated("Sound", tmp_path / "sound", "workers=1", "baselines=false")
    what = "ValueError: odd world" if kind == "Odd" else "SystemExit: 0"
    assert status == 1
    for row in (*rows, *sound):
        del row["task"]  # the environment's name
    assert (rows[0], rows[2]) == (sound[0], sound[2])
    assert rows[1]["reason"] == f"{what} (after 2 actions)"
    assert rows[1]["actions"] == sound[1]["actions"][:2]
    assert (summary["episodes"], summary["ended_by_exceptions"]) == (3, 1)
    assert summary["failures"] == {"exception": 1, "ended away from the goal": 2}
    assert [row["ended_by_exceptions"] for row in summary["baselines"].values()] == [1, 1, 1]
    last = printed.err.splitlines()[-1]
    assert last.startswith("error: 4 of 12 episodes were ended by an exception, the first one of ")
    assert f"planner, seed {FAILS}: {what}" in last
    log = (tmp_path / "odd" / "errors.log").read_text()
    assert log.count("self.fail()") == 4
    assert f"failure: {what}" in (tmp_path / "odd" / "report.html").read_text()


def test_a_killed_worker_process_costs_its_episode_only(tmp_path):
    status, summary, rows = evaluated(
        "Killed", tmp_path, "workers=2", "baselines=false", "pictures=false"
    )
    assert status == 1
    assert summary["ended_by_exceptions"] == 1
    assert ["SIGKILL" in row["reason"] for row in rows] == [False, True, False]


def test_a_command_of_which_every_episode_fails_names_the_first(tmp_path, capsys):
    assert evaluated("Always", tmp_path / "eval", "workers=1")[0] == 2
    printed = capsys.readouterr().err
    first = f"the first one of planner, seed {FAILS - 1}: ValueError: odd world"
    assert f"3 of 3 episodes were ended by an exception, {first}" in printed
    assert "hold" not in printed
    words = ["collect", f"environment={HERE}Always", "episodes=2", "length=6", "image_size=32"]
    assert main([*words, "workers=1", f"out={tmp_path}/data"]) == 2
    assert "the first one of seed " in capsys.readouterr().err


def test_a_shard_runs_failed_episodes_again_and_a_merge_counts_them(tmp_path, capsys, monkeypatch):
    words = [*EVAL, "workers=1", "baselines=false", f"environment={HERE}Odd", f"out={tmp_path}/out"]
    assert main([*words, "shard=0", "shards=1"]) == 1
    assert main(["merge", f"out={tmp_path}/out"]) == 1
    assert f"seed {FAILS}: ValueError: odd world" in capsys.readouterr().err.splitlines()[-1]
    assert "self.fail()" in (tmp_path / "out" / "errors.log").read_text()
    monkeypatch.setattr(Odd, "seeds", ())
    assert main([*words, "shard=0", "shards=1"]) == 0
    assert json.loads(capsys.readouterr().out)["played"] == 1
    assert main(["merge", f"out={tmp_path}/out"]) == 0


@pytest.mark.parametrize(("kind", "workers"), [("Odd", 1), ("Leaving", 2), ("Killed", 2)])
def test_collect_records_the_others_and_then_the_missing_one(kind, workers, tmp_path, capsys):
    words = ["collect", "episodes=3", "length=6", "image_size=32", f"workers={workers}"]
    words += [f"out={tmp_path}"]
    assert main([*words, f"environment={HERE}{kind}"]) == 1
    assert "1 of 3 episodes were ended" in capsys.readouterr().err.splitlines()[-1]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["episodes"] == 2
    assert [row["seed"] for row in summary["failed"]] == [1]
    assert (tmp_path / "errors.log").is_file()
    recorded = sorted(path.name for path in tmp_path.glob("*/*/*/episode-*"))
    assert recorded == ["episode-00000000", "episode-00000002"]


DRIVE = ["drive", "robot=mujoco", "task=reach", "execute=true", "confirm=false", "device=cpu"]
DRIVE += ["samples=8", "iterations=1", "elites=2", "stretch=1", "sub_goals=one"]


@pytest.mark.parametrize("error", ODD.values(), ids=ODD)
def test_a_drive_of_a_simulated_arm_goes_on_after_an_exception(
    error, tmp_path, capsys, monkeypatch
):
    from planning.agent import PlanningAgent

    act, calls = PlanningAgent.act, itertools.count()

    def odd(self, observation):
        if next(calls) == 2:
            raise error
        return act(self, observation)

    monkeypatch.setattr(PlanningAgent, "act", odd)
    assert main([*DRIVE, "episodes=2", f"out={tmp_path}"]) == 1
    rows = [json.loads(row) for row in (tmp_path / "episodes.jsonl").read_text().splitlines()]
    assert ["ended_by_error" in row for row in rows] == [True, False]
    assert len(rows[0]["actions"]) == 2
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["episodes"], summary["ended_by_exceptions"]) == (2, 1)
    assert "1 of 2 episodes" in capsys.readouterr().err.splitlines()[-1]
    assert (tmp_path / "errors.log").read_text().count("raise error") == 1
    assert len(list(tmp_path.glob("logs/*/log.jsonl"))) == 2


def test_a_scene_that_cannot_be_reset_is_a_failed_episode(tmp_path, monkeypatch):
    from planning.apps.workcell import MujocoWorkcell

    begin, calls = MujocoWorkcell.begin, itertools.count()

    def odd(self, *args):
        if next(calls) == 0:
            raise KeyError("no such body")
        begin(self, *args)

    monkeypatch.setattr(MujocoWorkcell, "begin", odd)
    assert main([*DRIVE, "episodes=2", f"out={tmp_path}"]) == 1
    rows = [json.loads(row) for row in (tmp_path / "episodes.jsonl").read_text().splitlines()]
    assert ["no such body" in row["reason"] for row in rows] == [True, False]


def test_code_that_exits_does_not_end_a_command_silently(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(Sound, "__init__", lambda *_, **__: sys.exit(0))
    words = ["eval", f"environment={HERE}Sound", "episodes=1", f"out={tmp_path}"]
    assert main(words) in (1, 2)
    assert "SystemExit" in capsys.readouterr().err


def test_an_exception_without_a_usable_text_is_described():
    class TextlessError(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    assert "TextlessError" in describe_error(TextlessError())
    assert len(describe_error(ValueError("a" * 10_000))) == 300
    episode = Episode("reach", 1, success=True, error_m=0.1)
    fail_by(episode, TextlessError())
    assert (episode.success, episode.summary()["error_m"]) == (False, None)


def test_an_error_that_a_library_raised_in_place_of_a_signal_ends_the_command(
    tmp_path, monkeypatch
):
    def interrupted(self, action):
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise RuntimeError("a library was interrupted") from None

    monkeypatch.setattr(Sound, "step", interrupted)
    monkeypatch.setattr(Sound, "sub_goals", lambda self, variant: [self._goal("goal", 2)])
    status = main([*EVAL, f"environment={HERE}Sound", "workers=1", f"out={tmp_path}"])
    assert status == 128 + signal.SIGTERM
    assert json.loads((tmp_path / "summary.json").read_text())["interrupted"]
