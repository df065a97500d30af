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
    assert write_files("your-robot.md", tmp_path) == ["my_arm.py", "my_limits.yaml"]
    with (tmp_path / "my_limits.yaml").open("a") as file:
        file.write("max_state_age_s: 2.0\n")
    yield tmp_path
    sys.modules.pop("my_arm", None)


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
