"""`worldmodel drive robot=franka`: stopped arms, late plans, cameras, and the whole real path."""

import dataclasses
import json
import threading
import time

import numpy as np
import pytest
from PIL import Image

from planning.agent import PlanningAgent
from planning.apps import franka_workcell
from planning.apps.workcell import Workcell, read_limits
from planning.cli.app import main
from planning.goals import GoalPicture, write_goal
from planning.options import SceneOptions
from planning.workcell_options import WorkcellOptions
from robot.cameras.camera import CallableCamera
from robot.errors import ReflexError
from robot.fake import FakeArm, Fault

SMALL = ["samples=30", "iterations=2", "elites=6", "device=cpu", "camera=0"]
MOVE = ["execute=true"]
TWIN_REACH = WorkcellOptions(robot="twin", scene=SceneOptions(task="reach"))


def logs(folder):
    found = sorted(folder.glob("logs/*/log.jsonl"))
    return [[json.loads(line) for line in log.read_text().splitlines()] for log in found]


@pytest.fixture
def goals(tmp_path):
    image = np.full((128, 128, 3), 90, np.uint8)
    for index in range(2):
        write_goal(tmp_path / "goals", index, GoalPicture("there", image, steps=3))
    return tmp_path / "goals"


@pytest.fixture
def fake_workcell(monkeypatch):
    """A fake arm and a noisy camera where `open_franka` would connect; what was asked."""
    rng = np.random.default_rng(0)
    camera = CallableCamera(lambda: rng.integers(60, 120, (128, 128, 3), dtype=np.uint8))
    asked, answers = [], []

    def answer(question):
        asked.append(question)
        return answers.pop(0) if answers else ""

    monkeypatch.setattr("builtins.input", answer)

    def use(arm, *said):
        monkeypatch.setattr(franka_workcell, "open_franka", lambda *_: (arm, camera))
        answers[:] = said
        return asked

    return use


def drive(goals, out, *words):
    return main(["drive", "robot=franka", f"goals={goals}", *SMALL, f"out={out}", *words])


def test_a_stopped_arm_is_recovered_on_a_typed_word(goals, tmp_path, fake_workcell, capsys):
    arm = FakeArm(faults=(Fault("reflex", 0),))
    asked = fake_workcell(arm, "move", "recover")
    assert drive(goals, tmp_path / "out", *MOVE) == 0
    assert any("recover" in question for question in asked)
    assert "The arm is stopped: reflex" in capsys.readouterr().out
    assert arm.steps > 0


def test_another_word_leaves_it_stopped(goals, tmp_path, fake_workcell, capsys):
    arm = FakeArm(faults=(Fault("reflex", 0),))
    fake_workcell(arm, "move", "yes")
    assert drive(goals, tmp_path / "out", *MOVE) == 2
    assert "Not recovered" in capsys.readouterr().err
    assert arm.recovered_at < 0


@pytest.mark.parametrize("words", [[], ["execute=true", "confirm=false", "unattended=true"]])
def test_without_a_person_a_stopped_arm_is_refused(words, goals, tmp_path, fake_workcell, capsys):
    arm = FakeArm(faults=(Fault("reflex", 0),))
    asked = fake_workcell(arm)
    assert drive(goals, tmp_path / "out", *words) == 2
    said = capsys.readouterr().err
    assert "The arm is stopped (reflex)" in said
    assert "type recover" in said
    assert asked == []
    assert arm.steps == 0


def test_a_reflex_ends_one_episode_and_a_person_sees_to_the_next(
    goals, tmp_path, fake_workcell, capsys
):
    arm = FakeArm(faults=(Fault("reflex", 2),))
    asked = fake_workcell(arm, "move", "", "recover")
    assert drive(goals, tmp_path / "out", *MOVE, "episodes=2") == 0
    assert len(asked) == 3
    first, second = logs(tmp_path / "out")
    assert "reflex" in first[-1]["ended"]
    assert second[-1]["ended"] == "budgets spent"
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["episodes"] == 2
    assert len(summary["stopped"]) == 1
    assert "ended early" in capsys.readouterr().out


def test_a_reflex_in_the_last_episode_is_an_error(goals, tmp_path, fake_workcell, capsys):
    fake_workcell(FakeArm(faults=(Fault("reflex", 2),)), "move")
    assert drive(goals, tmp_path / "out", *MOVE) == 2
    assert "reflex" in capsys.readouterr().err
    assert "stopped" in [row["kind"] for row in logs(tmp_path / "out")[0]]


def test_a_reflex_costs_a_workcell_that_renews_itself_its_episode_only(
    goals, tmp_path, fake_workcell, monkeypatch, capsys
):
    fake_workcell(FakeArm(faults=(Fault("reflex", 2),)), "move")
    monkeypatch.setattr(Workcell, "auto_recovers", True)
    assert drive(goals, tmp_path / "out", *MOVE) == 0
    assert "ended early" in capsys.readouterr().out


def test_a_lost_connection_is_an_error_there_too(
    goals, tmp_path, fake_workcell, monkeypatch, capsys
):
    fake_workcell(FakeArm(faults=(Fault("disconnect", 2),)), "move")
    monkeypatch.setattr(Workcell, "auto_recovers", True)
    assert drive(goals, tmp_path / "out", *MOVE) == 2
    assert "connection is lost" in capsys.readouterr().err


def test_the_twin_begins_anew_after_a_reflex():
    pytest.importorskip("franky")
    with franka_workcell.TwinWorkcell(TWIN_REACH) as workcell:
        assert workcell.auto_recovers
        workcell.begin(1)
        start = workcell.arm.state().state[:3]

        def collide():
            while np.linalg.norm(workcell.arm.state().state[:3] - start) < 0.005:
                time.sleep(0.002)
            workcell.twin.order_reflex()

        collision = threading.Thread(target=collide)
        collision.start()
        with pytest.raises(ReflexError, match="joint_reflex"):
            workcell.arm.send([0.075, 0, 0, 0, 0, 0, 0])
        collision.join()
        workcell.arm.stop()  # as a drive does after an error
        workcell.begin(2)
        assert workcell.arm.state().errors == ()
        workcell.arm.send([0.01, 0, 0, 0, 0, 0, 0])


def test_plans_from_old_frames_are_not_sent(goals, tmp_path, fake_workcell, monkeypatch, capsys):
    arm = FakeArm()
    fake_workcell(arm, "move")
    act = PlanningAgent.act

    def later(self, observation):
        decision = act(self, observation)
        time.sleep(0.3)
        return decision

    monkeypatch.setattr(PlanningAgent, "act", later)
    out = tmp_path / "out"
    assert drive(goals, out, *MOVE, "max_plan_s=0.25") == 0
    assert arm.steps == 0
    (rows,) = logs(out)
    assert "at most 0.25" in rows[1]["reasons"][0]
    assert "max_plan_s" in rows[-1]["ended"]
    assert json.loads((out / "summary.json").read_text())["reasons"] == {"frame": 3}
    assert "raise max_plan_s" in capsys.readouterr().out
    assert main(["replay", f"run={out}", f"out={tmp_path}/replay"]) == 0


@pytest.mark.parametrize("words", [["patience=5"], ["patience=0.5", "realtime=false"]])
def test_patience_is_for_simulated_arms(words, goals, tmp_path, capsys):
    assert drive(goals, tmp_path / "out", *words) == 2
    assert "realtime=false" in capsys.readouterr().err


def test_the_path_of_a_real_arm_from_camera_to_recording(tmp_path):
    """The twin's server and a network camera; nothing in the command knows that they are ours."""
    pytest.importorskip("franky")
    pytest.importorskip("cv2")
    from envs.twin.camera import TwinCamera
    from envs.twin.twin import Twin

    limits = tmp_path / "limits.yaml"
    limits.write_text("max_state_age_s: 2.0\nmax_speed_m_s: 0.25\n")
    out, seed = tmp_path / "out", 1_000_003
    with Twin("reach", client_s=300.0) as twin:
        picture, *_ = twin.reset(seed)
        goal = GoalPicture(picture.name, picture.image, picture.state, 4)
        write_goal(tmp_path / "goals", 0, goal)
        words = [
            "drive",
            "robot=franka",
            f"address={twin.address}",
            "realtime=false",
            "patience=50",  # the camera's frames are stamped by the host's clock
            f"goals={tmp_path}/goals",
            "execute=true",
            "confirm=false",
            "unattended=true",
            f"limits={limits}",
            "max_plan_s=60",
            f"out={out}",
            *SMALL[:-1],
        ]
        with TwinCamera(twin, seed, fps=10.0) as camera:
            assert main([*words, f"camera={camera.url}"]) == 0
        tcp = twin.info(closed=False)["tcp_m"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["stopped"] == []
    assert summary["final_error_m"]["median"] < 0.06
    assert tcp[2] > 0.0
    (rows,) = logs(out)
    assert rows[-1]["ended"] == "budgets spent"
    assert all(row["frame_age_s"] < 60 for row in rows if "frame_age_s" in row)
    for path in out.glob("logs/*/frame-*.png"):
        assert np.array(Image.open(path)).std() > 5  # a picture of the scene
    words = ["data", "index", f"root={out}/data", f"out={tmp_path}/index", "workers=1"]
    assert main(words) == 0
    assert main(["replay", f"run={out}", f"out={tmp_path}/replay"]) == 0


def test_a_simulated_arm_that_is_slow_is_no_fault_and_one_that_hangs_is():
    usual = franka_workcell.watchdog_ages(1.0)
    assert (usual.state_s, usual.kill_s) == (0.2, 0.8)
    simulated = franka_workcell.watchdog_ages(8.0, hang_s=40.0)
    assert (simulated.state_s, simulated.kill_s) == (40.0, 40.0)
    assert (simulated.planner_s, simulated.frame_s) == (1.6, pytest.approx(2.4))


def test_the_simulated_arm_is_driven_under_a_real_arms_limits():
    real, twin = (franka_workcell.driver_config(read_limits(n), "here") for n in ("franka", "twin"))
    assert real == twin
    assert (real.max_force_n, real.contact_n, real.max_speed_m_s) == (20.0, 10.0, 0.1)
    assert real.slow_below_m == pytest.approx(0.04)
    raised = dataclasses.replace(read_limits("franka"), table_z_m=0.1, contact_n=7.0)
    assert franka_workcell.driver_config(raised, "here").slow_below_m == pytest.approx(0.14)
    assert franka_workcell.driver_config(raised, "here").contact_n == 7.0
