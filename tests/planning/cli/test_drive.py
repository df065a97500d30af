"""`worldmodel drive` and `replay` on simulated arms."""

import json
import shutil

import h5py
import numpy as np
import pytest
from PIL import Image

from planning.apps import drive as driving
from planning.apps import drive_session, replay
from planning.apps.open_workcell import open_workcell
from planning.cli.app import main
from planning.driving import Step
from robot.errors import CameraError

SMALL = ["samples=30", "iterations=2", "elites=6", "device=cpu"]


def rows(folder):
    (log,) = sorted(folder.glob("logs/*/log.jsonl"))
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    out = tmp_path_factory.mktemp("drive")
    words = ["drive", "robot=mujoco", "task=reach", "execute=true", "confirm=false", "seed=3"]
    assert main([*words, *SMALL, f"out={out}"]) == 0
    return out


def test_a_drive_writes_what_eval_writes_and_more(driven):
    summary = json.loads((driven / "summary.json").read_text())
    named = "task episodes successes success_rate ci95 seconds_per_action final_error_m baselines"
    assert {*named.split(), "model", "seed", "versions", "cycle_parts_s"} <= summary.keys()
    assert summary["episodes"] == 1
    assert {"camera", "encode", "plan", "send"} <= summary["cycle_parts_s"].keys()
    assert (driven / "report.html").stat().st_size > 10_000


def test_the_log_has_every_step(driven):
    begin, *steps, end = rows(driven)
    assert (begin["kind"], end["kind"]) == ("begin", "end")
    assert steps[-1]["last"]
    keys = "state frame plan asked sent reasons energy seconds refused"
    assert all(set(keys.split()) <= row.keys() for row in steps[:-1])
    moved = np.array(steps[-1]["state"][:3]) - np.array(steps[0]["state"][:3])
    assert np.linalg.norm(moved) > 0.03
    assert len(list(driven.glob("logs/*/frame-*.png"))) == len(steps)


def test_the_recording_passes_the_index_and_trains(driven, tmp_path):
    words = ["data", "index", f"root={driven}/data", f"out={tmp_path}/index", "workers=1"]
    assert main(words) == 0
    summary = json.loads((tmp_path / "index" / "summary.json").read_text())
    assert (summary["accepted"], summary["rejected"]) == (1, 0)
    (path,) = driven.glob("data/*/*/*/*/trajectory.h5")
    with h5py.File(path) as file:
        delta = file["action/delta"][:]
        pose = file["observation/robot_state/cartesian_position"][:]
    assert np.abs(np.diff(pose[:, :3], axis=0) - delta[:-1, :3]).max() < 0.02
    words = ["train", f"data={driven}/data", f"val={driven}/data", f"out={tmp_path}/run", "steps=2"]
    small = [
        "image_size=64",
        "patch_size=64",
        "stem_channels=[8,16]",
        "encoder_dim=32",
        "predictor_dim=32",
        "predictor_depth=1",
        "batch_size=2",
        "num_frames=3",
    ]
    assert main([*words, *small, "eval_every=2"]) == 0


def test_a_drive_replays_to_the_same_actions(driven, tmp_path, capsys):
    assert main(["replay", f"run={driven}", f"out={tmp_path}"]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["largest_difference"] == 0.0
    said = capsys.readouterr().out
    assert "same actions" in said
    assert "safety layer judges" in said
    (episode,) = summary["episodes"]
    safety = episode["safety"]
    assert (safety["commands"], safety["largest_difference"]) == (episode["steps"], 0.0)
    assert safety["differ"] == []
    assert (tmp_path / "replay.webp").stat().st_size > 1000


def test_a_planner_that_ends_sooner_than_the_drive_is_said(driven, tmp_path, capsys, monkeypatch):
    make = replay.logged_agent

    def sooner(*arguments):
        agent = make(*arguments)
        act, calls = agent.act, []
        agent.act = lambda seen: None if calls else calls.append(1) or act(seen)
        return agent

    monkeypatch.setattr(replay, "logged_agent", sooner)
    assert main(["replay", f"run={driven}", f"out={tmp_path}"]) == 1
    (episode,) = json.loads((tmp_path / "summary.json").read_text())["episodes"]
    assert (episode["planned_steps"], episode["largest_difference"]) == (1, 0.0)
    assert f"ends after 1 of {episode['steps']} steps" in capsys.readouterr().out
    assert (tmp_path / "report.html").is_file()


def test_an_older_log_with_flat_options_replays(driven, tmp_path):
    (folder,) = driven.glob("logs/*")
    copy = shutil.copytree(folder, tmp_path / "log")
    begin, *lines = (copy / "log.jsonl").read_text().splitlines()
    header = json.loads(begin)
    options = header["options"]
    header["options"] = {
        **{name: options[name] for name in ("model", "device", "axes")},
        **{name: options["planner"][name] for name in ("optimiser", "samples", "iterations")},
        "horizon": 1,
        "elites": 6,
        "task": "reach",
        "robot": "mujoco",
        "arm": "fr3",
        "transform": "droid",
    }
    del header["specs"], header["kinematics"]
    (copy / "log.jsonl").write_text("\n".join([json.dumps(header), *lines]) + "\n")
    assert main(["replay", f"run={copy}", f"out={tmp_path}/out"]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["same"], summary["safety_same"]) == (True, True)


def test_a_changed_log_does_not_replay(driven, tmp_path):
    (folder,) = driven.glob("logs/*")
    copy = tmp_path / "log"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    lines = [json.loads(x) for x in (copy / "log.jsonl").read_text().splitlines()]
    lines[1]["asked"][0] += 0.01
    (copy / "log.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    assert main(["replay", f"run={copy}", f"out={tmp_path}/out"]) == 1


@pytest.mark.parametrize("what", ["target", "verdict", "asked"])
def test_a_changed_safety_log_is_not_judged_as_it_was(what, driven, tmp_path):
    (folder,) = driven.glob("logs/*")
    copy = tmp_path / "log"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    lines = [json.loads(x) for x in (copy / "safety.jsonl").read_text().splitlines()]
    if what == "target":
        lines[1]["allowed"][2] += 0.002
    elif what == "verdict":
        lines[1]["allowed"] = None
    else:
        lines[1]["asked"][0] += 0.001
    (copy / "safety.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    assert main(["replay", f"run={copy}", "plan=false", f"out={tmp_path}/out"]) == 1
    (copy / "safety.jsonl").unlink()  # an older log has nothing to judge
    assert main(["replay", f"run={copy}", "plan=false", f"out={tmp_path}/out"]) == 0


ODD_LINES = {
    "null": lambda row: None,
    "a list": lambda row: [1],
    "torn": lambda row: "{",
    "no kind": lambda row: {k: v for k, v in row.items() if k != "kind"},
    "no seed, no frame": lambda row: {
        k: v for k, v in row.items() if k not in ("seed", "frame", "kinematics", "options")
    },
    "words": lambda row: {k: "x" if k != "kind" else v for k, v in row.items()},
    "nothing in it": lambda row: {k: None if k != "kind" else v for k, v in row.items()},
}


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("name", ODD_LINES)
def test_an_odd_line_of_a_log_is_named(name, at, driven, tmp_path, capsys):
    shutil.copytree(driven, tmp_path / "run")
    (log,) = (tmp_path / "run").glob("logs/*/log.jsonl")
    lines = log.read_text().splitlines()
    odd = ODD_LINES[name](json.loads(lines[at]))
    lines[at] = odd if isinstance(odd, str) else json.dumps(odd)
    log.write_text("\n".join(lines))
    words = ["replay", f"run={tmp_path}/run", f"out={tmp_path}/out", "plan=false"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "log.jsonl" in said
    assert "crash.log" not in said


@pytest.mark.parametrize("entry", ["base", "allowed", "asked", "refused", "n"])
def test_an_odd_line_of_a_safety_log_is_named(entry, driven, tmp_path, capsys):
    shutil.copytree(driven, tmp_path / "run")
    (log,) = (tmp_path / "run").glob("logs/*/safety.jsonl")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    rows[1][entry] = {"a": 1}
    if entry == "refused":
        del rows[1]["refused"]
    log.write_text("\n".join(map(json.dumps, rows)))
    words = ["replay", f"run={tmp_path}/run", f"out={tmp_path}/out", "plan=false"]
    assert main(words) == 2
    assert "safety.jsonl" in capsys.readouterr().err


def test_a_dry_run_moves_nothing(tmp_path):
    words = ["drive", "robot=mujoco", "task=reach", "sub_goals=one", f"out={tmp_path}"]
    assert main([*words, *SMALL]) == 0
    steps = [row for row in rows(tmp_path) if row["kind"] == "step"]
    states = np.array([row["state"] for row in steps])
    assert np.ptp(states, axis=0).max() == 0.0
    assert all("dry run" in row["reasons"] for row in steps if "asked" in row)
    assert json.loads((tmp_path / "summary.json").read_text())["dry_run"] is True


def test_nothing_moves_without_the_typed_word(tmp_path, monkeypatch, capsys):
    words = ["drive", "robot=fake", "task=reach", "execute=true", *SMALL, f"out={tmp_path}"]
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    assert main(words) == 2
    assert "nothing has moved" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


def test_a_person_may_refuse_a_step(tmp_path, monkeypatch):
    answers = iter(["move", "y", "n"])
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    words = ["drive", "robot=fake", "task=reach", "execute=true", "confirm_each=true"]
    assert main([*words, *SMALL, f"out={tmp_path}"]) == 0
    *_, end = rows(tmp_path)
    assert "not confirmed" in end["ended"]
    sent = [row["refused"] for row in rows(tmp_path) if "sent" in row]
    assert sent == [False, True]


def test_a_real_arm_needs_a_person(tmp_path, capsys):
    Image.fromarray(np.full((128, 128, 3), 90, np.uint8)).save(tmp_path / "a.png")
    words = ["drive", "robot=franka", f"goals={tmp_path}", "execute=true", "confirm=false"]
    assert main(words) == 2
    assert "emergency stop" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["robot=puma", "task=reach"], "franka, twin, mujoco, fake"),
        ([], "goals=FOLDER"),
        (["task=fetch"], "reach, grasp"),
        (["goals=nowhere.png"], "cannot be read"),
        (["robot=franka", "task=reach"], "capture-goal"),
        (["task=reach", "limits=moon"], "franka, twin or a file"),
    ],
)
def test_wrong_options_say_the_mend(words, message, capsys):
    assert main(["drive", *words]) == 2
    assert message in capsys.readouterr().err


class Broken:
    """A camera that works for some frames."""

    def __init__(self, camera, frames, what):
        self.camera, self.left, self.what = camera, frames, what

    def read(self):
        self.left -= 1
        if self.left < 0:
            if self.what == "black":
                frame = self.camera.read()
                return type(frame)(frame.image * 0, frame.time_s)
            if self.what == "stale":
                frame = self.camera.read()
                return type(frame)(frame.image, frame.time_s - 10.0)
            raise CameraError("The device gives no frame")
        return self.camera.read()

    def close(self):
        self.camera.close()


@pytest.mark.parametrize(
    ("what", "message"), [("black", "black"), ("stale", "old"), ("gone", "no frame")]
)
def test_bad_frames_stop_the_arm_and_keep_the_log(what, message, tmp_path, monkeypatch, capsys):
    def open_broken(*options):
        workcell = open_workcell(*options)
        workcell.camera = Broken(workcell.camera, 3, what)
        return workcell

    monkeypatch.setattr(driving, "open_workcell", open_broken)
    words = ["drive", "robot=fake", "task=reach", "execute=true", "confirm=false"]
    assert main([*words, *SMALL, f"out={tmp_path}"]) == 2
    assert message in capsys.readouterr().err
    kinds = [row["kind"] for row in rows(tmp_path)]
    assert kinds == ["begin", "step", "step", "step", "stopped", "end"]
    assert message in rows(tmp_path)[-1]["ended"]
    assert len(list(tmp_path.glob("data/*/failure/*/*/trajectory.h5"))) == 1


def test_ctrl_c_stops_the_arm_and_keeps_finished_episodes(tmp_path, monkeypatch):
    seen = []

    class Impatient(drive_session.Recorder):
        def step(self, step: Step) -> None:
            super().step(step)
            seen.append(step.index)
            if seen.count(0) == 2 and step.index == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(drive_session, "Recorder", Impatient)
    words = ["drive", "robot=fake", "task=reach", "execute=true", "confirm=false", "episodes=3"]
    assert main([*words, *SMALL, f"out={tmp_path}"]) == 130
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["episodes"], summary["stopped"]) == (2, ["Ctrl-C"])
    page = (tmp_path / "report.html").read_text()
    assert "failure: Ctrl-C" in page
    assert page.count("<figcaption>what happened") == 2  # the partial episode has its pictures
    logs = sorted(tmp_path.glob("logs/*/log.jsonl"))
    last = [json.loads(line) for line in logs[-1].read_text().splitlines()]
    assert [row["kind"] for row in last[-2:]] == ["stopped", "end"]
    assert len(list(tmp_path.glob("data/*/*/*/*/trajectory.h5"))) == 2


def test_a_drive_over_libfrankas_protocol(tmp_path):
    pytest.importorskip("franky")
    words = ["drive", "robot=twin", "task=reach", "execute=true", "confirm=false", "seed=3"]
    assert main([*words, *SMALL, f"out={tmp_path}"]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["episodes"] == 1
    assert summary["stopped"] == []
    assert summary["final_error_m"]["median"] < 0.06
    assert (tmp_path / "report.html").is_file()
