"""Recordings of episodes for Rerun's viewer; the SDK itself is not needed."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest

from planning.cli.app import main
from planning.errors import PlanError
from planning.goals import GoalPicture
from planning.options import EvalOptions
from planning.report.recording import write_recordings
from planning.rollout import Episode
from planning.shard_options import ShardOptions
from planning.skill_record import Candidate, SkillRecord

CAMERA_34 = np.array([[1.0, 0, 0, 0.5], [0, 1.0, 0, 0.5], [0, 0, 0, 1.0]])
FACTS = {"targets": (0,), "params": ({},), "variants": (0,), "skills": ("push",)}


class Stream:
    """Stands in for `rerun.RecordingStream`: keeps what is logged, by entity."""

    last: "Stream"

    def __init__(self, application_id, *, recording_id):
        self.name, self.step, self.entries = recording_id, None, {}
        Stream.last = self

    def set_time(self, timeline, *, sequence):
        assert timeline == "step"
        self.step = sequence

    def log(self, entity, value, *, static=False):
        self.entries.setdefault(entity, []).append((None if static else self.step, value))

    def memory_recording(self):
        return self

    def drain_as_bytes(self):
        return b"recording"

    def steps(self, entity):
        return [step for step, _ in self.entries[entity]]


class Value:
    """Stands in for an archetype."""

    def __init__(self, *arguments, **options):
        self.arguments, self.options = arguments, options

    def compress(self, *, jpeg_quality):
        assert jpeg_quality > 80
        return self


@pytest.fixture
def rerun(monkeypatch):
    module = ModuleType("rerun")
    module.__spec__ = ModuleSpec("rerun", None)
    module.RecordingStream = Stream
    for name in ("Image", "Scalars", "SeriesLines", "TextDocument", "TextLog", "Points3D"):
        setattr(module, name, type(name, (Value,), {}))
    module.LineStrips3D = module.LineStrips2D = Value
    monkeypatch.setitem(sys.modules, "rerun", module)


@pytest.fixture
def episode():
    picture = np.zeros((20, 40, 3), np.uint8)
    path = ((0.1, 0.0, 1.0), (0.2, 0.1, 1.0))
    chosen = Candidate(energy=0.2, path_m=path, **FACTS)
    other = Candidate(energy=0.3, path_m=path[::-1], **FACTS)
    decisions = [
        SkillRecord(
            why="plan",
            executed=2,
            energy_now=0.5,
            chosen=chosen,
            candidates=(chosen, other),
            objects=((0.1, 0.2, 0.02, None),),
            goals=((0.3, 0.2, 0.02, 0.1),),
        ),
        SkillRecord(why="reached", executed=1, step=2, energy_now=0.1),
    ]
    goals = [GoalPicture("first", picture, np.zeros(7), 2), GoalPicture("x", picture, None, 1)]
    return Episode(
        "push",
        7,
        success=True,
        frames=[picture] * 4,
        goals=goals,
        actions=[[0.0] * 7] * 3,
        energies=[0.5, 0.4, 0.1],
        sub_goals=[0, 0, 1],
        decisions=decisions,
        imagined=[picture, None],
        camera_34=CAMERA_34,
    )


def test_an_episode_is_recorded_step_by_step(rerun, episode, tmp_path):
    (path,) = write_recordings(tmp_path / "rerun", [episode])
    assert (path.name, path.read_bytes()) == ("0000-seed-7.rrd", b"recording")
    stream = Stream.last
    assert stream.steps("camera") == [0, 1, 2, 3]
    assert stream.steps("goal") == [0, 2]
    assert stream.steps("energy/now") == [0, 1, 2]
    assert stream.steps("action") == [None, 0, 1, 2]
    assert stream.steps("decision") == stream.steps("table/objects") == [0, 2]
    assert stream.steps("imagined_end") == stream.steps("energy/imagined") == [0]
    ((_, value),) = stream.entries["outcome"]
    assert value.arguments == ("push, seed 7: success",)
    (_, drawn), (_, none) = stream.entries["camera/paths"]
    chosen, other = drawn.arguments[0]
    np.testing.assert_allclose(chosen, [[24, 10], [28, 12]])
    np.testing.assert_allclose(other, chosen[::-1])
    assert none.arguments == ([],)


def test_episodes_without_frames_or_actions_are_recorded(rerun, episode, tmp_path):
    episode.frames, episode.imagined = [], []
    ended = Episode("push", 7, reason="exception", decisions=[])
    first, second = write_recordings(tmp_path, [episode, ended])
    assert first.name != second.name
    assert set(Stream.last.entries) == {"action", "outcome"}


def test_a_missing_sdk_is_named_before_any_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for command in ("eval task=push", "replay run=x", "drive scene.task=push"):
        assert main([*command.split(), "rerun=true", f"out={tmp_path}/out"]) == 2
        assert "pip install 'worldmodel[rerun]'" in capsys.readouterr().err
    with pytest.raises(PlanError, match="no effect on a shard"):
        EvalOptions(rerun=True, part=ShardOptions(shard=0, shards=2))


def test_the_sdk_writes_what_its_tools_read(episode, tmp_path):
    pytest.importorskip("rerun")
    (path,) = write_recordings(tmp_path, [episode])
    assert path.read_bytes()[:4] == b"RRF2"
