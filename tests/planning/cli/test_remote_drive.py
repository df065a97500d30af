"""`worldmodel drive policy=ws://...`: as with a model here, without torch, and when it is lost."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import worldmodel
from planning.apps import drive as driving
from planning.apps.franka_workcell import interrupt_motion
from planning.cli.app import main
from planning.errors import PlanError
from planning.pictures import fit_picture
from planning.remote.client import PlanConnection
from planning.remote.policy import RemoteAgent
from planning.serve_options import RemoteOptions
from tests.planning.remote.serving import QUICK, TIMEOUT_S, serving, wait_for
from worldmodel.data.transforms import Preprocess

ROOT = Path(worldmodel.__file__).parents[1]
CALM = [f"heartbeat_s={TIMEOUT_S}", f"answer_s={TIMEOUT_S}"]
"""Time limits that a busy machine does not exceed."""
REACH = ["drive", "task=reach", "execute=true", "confirm=false", "seed=3"]
WITHOUT_TORCH = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "safetensors", "tensorboard"):
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, NoTorch())
from planning.cli.app import main
status = main(sys.argv[1:])
assert "torch" not in sys.modules
raise SystemExit(status)
"""


def rows(folder):
    (log,) = sorted(folder.glob("logs/*/log.jsonl"))
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("serve")) as served:
        yield served


def test_the_actions_are_those_of_a_model_on_this_machine(server, tmp_path, capsys):
    here, there = tmp_path / "here", tmp_path / "there"
    assert main([*REACH, "robot=mujoco", *QUICK, f"out={here}"]) == 0
    words = [*REACH, "robot=mujoco", f"policy={server.url}", *CALM, f"out={there}"]
    assert main(words) == 0
    first, second = rows(here), rows(there)
    assert [row.get("asked") for row in first] == [row.get("asked") for row in second]
    assert second[0]["policy"] == server.url
    assert second[0]["specs"].keys() == first[0]["specs"].keys()
    assert second[0]["options"]["planner"] == first[0]["options"]["planner"]
    summary = json.loads((there / "summary.json").read_text())
    assert "network" in summary["cycle_parts_s"]
    assert (there / "report.html").stat().st_size > 10_000
    assert main(["replay", f"run={there}", f"out={tmp_path}/replay"]) == 0
    assert "same actions" in capsys.readouterr().out


def test_the_robots_machine_needs_no_torch(server, tmp_path):
    words = [*REACH, "robot=fake", f"policy={server.url}", *CALM, f"out={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *words],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "summary.json").read_text())["episodes"] == 1
    assert list(tmp_path.glob("data/*/*/*/*/trajectory.h5"))


def test_skills_are_planned_there_too(tmp_path):
    words = ["method=skills", "skill_samples=8", "skill_iterations=1"]
    with serving(tmp_path, *words, quick=["device=cpu"]) as served:
        drive = ["drive", "robot=mujoco", "task=push", "execute=true", "confirm=false"]
        out = tmp_path / "out"
        assert main([*drive, f"policy={served.url}", *CALM, f"out={out}"]) == 0
        header, *steps = rows(out)
        assert header["method"] == "skills"
        assert len(steps) > 2


def test_goal_images_are_sent_once(server, tmp_path, monkeypatch):
    asked = []
    real = PlanConnection.ask

    def ask(self, message, **more):
        asked.append(message["request"])
        return real(self, message, **more)

    monkeypatch.setattr(PlanConnection, "ask", ask)
    words = [*REACH, "robot=mujoco", f"policy={server.url}", *CALM, f"out={tmp_path}"]
    assert main([*words, "episodes=2"]) == 0
    assert asked[0] == "connect"
    assert (asked.count("goal"), asked.count("begin")) == (2, 2)
    assert asked.count("act") > 4


class Events:
    """When the server was struck and the arm was stopped."""

    def __init__(self, monkeypatch, served, strike):
        self.served, self.strike, self.struck = served, strike, 0.0
        self.acts = 0
        real = RemoteAgent.act

        def act(agent, observation):
            self.acts += 1
            if self.acts == 3:
                self.struck = time.monotonic()
                strike(served)
            return real(agent, observation)

        monkeypatch.setattr(RemoteAgent, "act", act)


def ended_drive(url, out, capsys, *words):
    """Drive until the server is lost; return the log's end, the words, and the rows."""
    status = main([*REACH, "robot=fake", f"policy={url}", f"out={out}", *words])
    said = capsys.readouterr().err
    assert status == 2, said
    found = rows(out)
    assert any(row["kind"] == "stopped" for row in found)
    assert found[-1]["kind"] == "end"
    assert found[-1]["data"], "the recording is kept"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["stopped"] == [found[-1]["ended"]]
    assert (out / "report.html").is_file()
    (metadata,) = out.glob("data/*/*/*/*/metadata_*.json")
    assert json.loads(metadata.read_text())["ended"] == found[-1]["ended"]
    assert found[-1]["ended"] in said
    return found[-1]["ended"]


def test_a_killed_server_stops_the_arm(tmp_path, monkeypatch, capsys):
    with serving(tmp_path) as served:
        Events(monkeypatch, served, lambda s: s.kill())
        ended = ended_drive(served.url, tmp_path / "out", capsys, *CALM)
    assert "closed the connection" in ended


def test_a_frozen_server_stops_the_arm(tmp_path, monkeypatch, capsys):
    with serving(tmp_path) as served:
        events = Events(monkeypatch, served, lambda s: s.freeze())
        words = ["heartbeat_s=5", f"answer_s={TIMEOUT_S}"]
        ended = ended_drive(served.url, tmp_path / "out", capsys, *words)
        assert events.acts == 3
    assert "has answered no heartbeat for 5 s" in ended


def test_a_slow_server_stops_the_arm(tmp_path, monkeypatch, capsys):
    slow = ["samples=3000", "iterations=200", "elites=4"]
    with serving(tmp_path, *slow, quick=["device=cpu"]) as served:
        words = [f"heartbeat_s={TIMEOUT_S}", "answer_s=0.3"]
        status = main([*REACH, "robot=fake", f"policy={served.url}", f"out={tmp_path}/out", *words])
    assert status == 2
    assert "took longer than 0.3 s to plan" in capsys.readouterr().err
    assert rows(tmp_path / "out")[-1]["ended"].count("took longer")


def test_a_lost_server_stops_the_twin_in_mid_motion(tmp_path, monkeypatch, capsys):
    """The driver's process receives the stop while `send` waits for the end of a motion."""
    pytest.importorskip("franky")
    pytest.importorskip("franky_sim")
    stopped = []

    def watched(arm, why):
        stopped.append((arm.link.moving, why))
        interrupt_motion(arm, why)

    monkeypatch.setattr("planning.apps.franka_workcell.interrupt_motion", watched)
    real = driving.open_workcell

    def opened(*arguments):
        cell = real(*arguments)

        def strike():
            wait_for("a motion", lambda: cell.driver.link.moving)
            served.kill()

        threading.Thread(target=strike, daemon=True).start()
        return cell

    monkeypatch.setattr(driving, "open_workcell", opened)
    with serving(tmp_path) as served:
        words = [*REACH, "robot=twin", f"policy={served.url}", *CALM, f"out={tmp_path}/out"]
        assert main(words) == 2
    ((moving, why),) = stopped
    assert moving
    assert "the plan server closed the connection" in why
    ended = rows(tmp_path / "out")[-1]["ended"]
    assert "The arm was stopped: the plan server closed the connection" in ended


@pytest.mark.parametrize(
    "words",
    [
        ["model=one_goal"],
        ["samples=20"],
        ["device=cpu"],
        ["precision=float32"],
        ["optimiser=mppi"],
        ["method=skills"],
    ],
)
def test_options_of_a_model_here_are_refused(words, capsys):
    assert main(["drive", "task=reach", "policy=ws://127.0.0.1:9", *words]) == 2
    assert "has no effect with policy=" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["token_file=a", "heartbeat_s=1", "answer_s=1", "tls_ca=a"])
def test_options_of_a_server_need_one(words, capsys):
    assert main(["drive", "task=reach", words]) == 2
    assert "only with policy=" in capsys.readouterr().err


def test_a_certificate_needs_tls():
    with pytest.raises(PlanError, match="only with policy=wss"):
        RemoteOptions(policy="ws://a:1", tls_ca="ca.pem")


@pytest.mark.parametrize("kind", ["droid", "published", "center_crop", "squeeze"])
@pytest.mark.parametrize("shape", [(240, 320), (300, 200), (256, 256)])
def test_a_picture_for_the_report_is_about_what_the_model_sees(kind, shape):
    rows_H, columns_W = (np.linspace(0, 255, n) for n in shape)
    image = np.stack(np.broadcast_arrays(rows_H[:, None], columns_W, 128.0), -1).astype(np.uint8)
    shown = fit_picture(image, kind, (128, 128))
    wanted = Preprocess(kind, (128, 128))(image).numpy()
    assert shown.shape == wanted.shape
    assert np.abs(shown.astype(int) - wanted).max() < 4
