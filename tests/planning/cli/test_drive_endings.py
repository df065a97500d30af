"""Whatever ends a drive, its last episode is in log, recording, summary and report."""

import json
import signal
import time

import pytest

from planning.agent import PlanningAgent
from planning.apps import drive_recorder, local_planner
from planning.apps import drive_session as driving
from planning.cli.app import main
from planning.drive_log import DriveLog, new_folder
from robot.errors import ArmError
from robot.fake import FakeArm
from worldmodel.errors import DataError

SMALL = ["samples=30", "iterations=2", "elites=6", "device=cpu"]
MOVE = ["drive", "robot=fake", "task=reach", "execute=true", "confirm=false", *SMALL]


def at_step(step, error, call):
    """Wrap a method so that its call number `step` raises."""
    calls = []

    def wrapped(self, *args, **kwargs):
        calls.append(None)
        if len(calls) > step:
            raise error
        return call(self, *args, **kwargs)

    return wrapped


def results(folder):
    (log,) = sorted(folder.glob("logs/*/log.jsonl"))
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    return rows, summary, (folder / "report.html").read_text()


CASES = {
    "arm": (FakeArm, "send_pose", ArmError("the cable is cut"), 2, "the cable is cut"),
    "arm at once": (FakeArm, "send_pose", ArmError("no power"), 2, "no power"),
    "planner": (PlanningAgent, "act", MemoryError("too large"), 1, "too large"),
    "person": (PlanningAgent, "act", KeyboardInterrupt(), 130, "Ctrl-C"),
    "signal": (FakeArm, "send_pose", KeyboardInterrupt("SIGTERM"), 130, "SIGTERM"),
    "program": (PlanningAgent, "act", AssertionError(), 1, "AssertionError"),
}


@pytest.mark.parametrize("name", CASES)
def test_an_episode_that_an_error_ends_is_kept_with_its_pictures(name, tmp_path, monkeypatch):
    kind, method, error, status, text = CASES[name]
    step = 0 if name == "arm at once" else 2
    monkeypatch.setattr(kind, method, at_step(step, error, getattr(kind, method)))
    assert main([*MOVE, f"out={tmp_path}"]) == status
    rows, summary, page = results(tmp_path)
    assert [row["kind"] for row in rows] == ["begin", *["step"] * (step + 1), "stopped", "end"]
    assert rows[-1]["ended"] == text
    assert (summary["episodes"], summary["successes"], summary["stopped"]) == (1, 0, [text])
    assert f"failure: {text}" in page
    assert page.count("<figcaption>what happened") == 1
    assert len(list(tmp_path.glob("logs/*/frame-*.png"))) == step + 1
    assert len(list(tmp_path.glob("data/*/failure/*/*/trajectory.h5"))) == (step > 0)


PHASES = {  # while what is written; the signal comes before or after it
    "log is opened": (driving, "DriveLog"),
    "step": (DriveLog, "step"),
    "recording": (drive_recorder, "write_episode"),
    "end of the log": (DriveLog, "end"),
    "report": (driving, "write_report"),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_waits_until_what_is_being_written_is_whole(phase, when, tmp_path, monkeypatch):
    number = {"before": signal.SIGTERM, "after": signal.SIGINT}[when]
    owner, name = PHASES[phase]
    write = getattr(owner, name)

    def signalled(*args, **kwargs):
        if when == "before":
            signal.raise_signal(number)
        written = write(*args, **kwargs)
        if when == "after":
            signal.raise_signal(number)
        return written

    monkeypatch.setattr(owner, name, signalled)
    assert main([*MOVE, "sub_goals=one", f"out={tmp_path}"]) == 128 + number
    rows, summary, page = results(tmp_path)
    assert rows[-1]["kind"] == "end"
    assert summary["episodes"] == 1
    assert "seed" in page
    steps = [row for row in rows if row["kind"] == "step"]
    assert len(list(tmp_path.glob("logs/*/frame-*.png"))) == len(steps)
    assert page.count("<figcaption>what happened") == bool(steps)
    assert len(list(tmp_path.glob("data/*/*/*/*/trajectory.h5"))) == (len(steps) > 1)


def test_pictures_of_what_was_imagined_do_not_cost_the_report(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("odd decoder")

    monkeypatch.setattr(local_planner, "add_imagined", fail)
    assert main([*MOVE, "sub_goals=one", f"out={tmp_path}"]) == 0
    assert results(tmp_path)[1]["episodes"] == 1


@pytest.mark.parametrize("file", ["frame-0002.png", "goal-00.png"])
def test_a_full_disk_is_named_and_the_arm_is_stopped(file, tmp_path, monkeypatch, capsys):
    stops = []
    monkeypatch.setattr(FakeArm, "stop", lambda _: stops.append(time.monotonic()))

    def nearly_full(parent, name):
        folder = new_folder(parent, name)
        (folder / file).symlink_to("/dev/full")
        return folder

    monkeypatch.setattr(driving, "new_folder", nearly_full)
    assert main([*MOVE, f"out={tmp_path}"]) == 2
    assert f"{file}: No space left" in capsys.readouterr().err
    assert (tmp_path / "report.html").is_file()
    if file.startswith("frame"):
        rows, summary, page = results(tmp_path)
        assert stops
        assert [row["kind"] for row in rows[-2:]] == ["stopped", "end"]
        assert summary["episodes"] == 1
        assert page.count("<figcaption>what happened") == 1


def test_a_recording_that_cannot_be_written_costs_neither_log_nor_report(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise DataError("the recording is odd")

    monkeypatch.setattr(drive_recorder, "write_episode", refuse)
    assert main([*MOVE, f"out={tmp_path}"]) == 2
    rows, summary, _ = results(tmp_path)
    assert rows[-1]["kind"] == "end"
    assert summary["episodes"] == 1


def test_a_clock_that_is_set_back_costs_no_log(tmp_path, monkeypatch):
    monkeypatch.setattr(driving.time, "strftime", lambda _: "20261025-023000")
    for _ in range(2):
        assert main([*MOVE, "sub_goals=one", f"out={tmp_path}"]) == 0
    names = [path.name for path in sorted(tmp_path.glob("logs/*"))]
    assert names == ["20261025-023000-000", "20261025-023000-000-2"]
    assert len(list(tmp_path.glob("data/*/*/*/*/trajectory.h5"))) == 2


def test_new_folders_are_new(tmp_path):
    assert [new_folder(tmp_path, "a").name for _ in range(3)] == ["a", "a-2", "a-3"]
