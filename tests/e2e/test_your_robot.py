"""The guide "Your robot", from an empty folder, through the safety layer and the watchdog."""

import json
import sys

import h5py
import numpy as np
import pytest

from planning.cli.app import main
from tests.guides import commands, write_files

BUSY = ["realtime=false", "patience=100", "device=cpu"]
"""This machine may be busy; the arm is simulated."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder with the guide's files, which are imported from there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    files = ["my_arm.py", "my_joints.py", "my_limits.yaml"]
    assert write_files("your-robot.md", tmp_path) == files
    with (tmp_path / "my_limits.yaml").open("a") as file:
        file.write("max_state_age_s: 2.0\n")
    yield tmp_path
    for name in ("my_arm", "my_joints"):
        sys.modules.pop(name, None)


def test_the_guide_drives_an_arm_of_ones_own_class(folder, capsys):
    look, dry, moving = commands("your-robot.md")
    assert main([*look, *BUSY[:2]]) == 0
    assert main([*dry, *BUSY]) == 0
    assert json.loads((folder / "runs/dry/summary.json").read_text())["reasons"]["dry run"] == 3
    assert main([*moving, *BUSY, "confirm=false"]) == 2
    assert "unattended=true" in capsys.readouterr().err
    assert main([*moving, *BUSY, "confirm=false", "unattended=true"]) == 0
    summary = json.loads((folder / "runs/my_arm/summary.json").read_text())
    assert summary["robot"] == "my_arm:MyArm"
    (recording,) = (folder / "runs/my_arm").glob("data/*/*/*/*/trajectory.h5")
    with h5py.File(recording) as file:
        positions = file["observation/robot_state/cartesian_position"][:, :3]
        sent = file["action/delta"][:, :3]
    moved = np.diff(positions, axis=0)
    assert np.abs(sent[: len(moved)]).max() > 0.005
    assert np.abs(moved - sent[: len(moved)]).max() < 0.002
    assert main(["replay", "run=runs/my_arm", "plan=false"]) == 0


def test_an_arm_of_six_joints_and_no_gripper_is_driven(folder, capsys):
    look, _, moving = (
        [w.replace("my_arm:MyArm", "my_joints:JointArm") for w in words]
        for words in commands("your-robot.md")
    )
    assert main([*look, *BUSY[:2]]) == 0
    assert main([*moving, *BUSY, "gate_m=0", "confirm=false", "unattended=true"]) == 0
    (recording,) = (folder / "runs/my_arm").glob("data/*/*/*/*/trajectory.h5")
    with h5py.File(recording) as file:
        poses = file["observation/robot_state/cartesian_position"][:]
        joints = file["observation/robot_state/joint_positions"][:]
        sent = file["action/delta"][:]
    assert np.ptp(joints[:, :6], axis=0).max() > 0.005
    assert not joints[:, 6].any()
    assert not sent[:, 6].any()
    moved = np.diff(poses[:, :3], axis=0)
    assert np.abs(sent[: len(moved), :3]).max() > 0.005
    assert np.abs(moved - sent[: len(moved), :3]).max() < 0.002
    tilt = np.degrees(np.abs(np.abs(poses[:, 3]) - np.pi) + np.abs(poses[:, 4]))
    assert tilt.max() < 1
    assert main(["replay", "run=runs/my_arm"]) == 0
    out = capsys.readouterr().out
    assert "largest difference 0" in out
    plan = ["method=skills", "model=one_goal_labelled"]
    assert main([*moving[:-1], *BUSY, *plan]) == 2
    assert "samples=20" in capsys.readouterr().err  # has no effect with skills
    searched = [w for w in moving[:-1] if not w.startswith(("samples=", "iterations="))]
    assert main([*searched, *BUSY, *plan]) == 2
    assert "Skills use a gripper" in capsys.readouterr().err


def test_an_arm_of_ones_own_needs_its_camera_and_limits(folder, capsys):
    assert main(["drive", "robot=my_arm:MyArm", "goals=x"]) == 2
    assert "needs camera= and limits=" in capsys.readouterr().err
    words = ["drive", "robot=my_arm:Nothing", "camera=my_arm:MyCamera", "limits=my_limits.yaml"]
    (folder / "goal.png").write_bytes(b"")
    assert main([*words, "goals=x"]) == 2
    capsys.readouterr()
    look = commands("your-robot.md")[0]
    assert main([w.replace("MyArm", "Nothing") for w in look]) == 2
    assert "my_arm:Nothing cannot be loaded" in capsys.readouterr().err
