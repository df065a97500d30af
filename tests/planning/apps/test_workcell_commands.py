"""`calibrate axes`, `check-view` and `capture-goal` on simulated arms."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from planning.cli.app import main
from planning.cli.capture_goal import HELP, follow
from planning.goals import GoalPicture, read_goals, write_goal
from robot.calibrate import Axes, solve_axes
from robot.errors import CalibrationError

MOVE = ["execute=true", "confirm=false", "seed=1"]


@pytest.mark.parametrize("turn", [0.0, 25.0])
def test_axes_are_found_and_a_known_turn_too(tmp_path, turn):
    words = ["calibrate", "axes", "robot=mujoco", *MOVE, "moves=8", f"turn_deg={turn}"]
    assert main([*words, "samples=60", "iterations=4", f"out={tmp_path}"]) == 0
    axes = Axes.read(tmp_path / "axes.json")
    assert abs(axes.angle_deg + turn) < 12  # the rotation undoes the turn
    assert axes.residual < 0.5
    assert json.loads((tmp_path / "summary.json").read_text())["moves"] == 8


def test_moves_along_a_line_are_refused(tmp_path, capsys):
    line = np.outer(np.linspace(-1, 1, 6), [0.03, 0.0301])
    with pytest.raises(CalibrationError, match="condition"):
        solve_axes(line, line)
    assert main(["calibrate", "axes", "robot=mujoco", f"out={tmp_path}"]) == 2
    assert "execute=true" in capsys.readouterr().err


def test_a_calibration_turns_the_drive(tmp_path):
    rotation = ((0.0, -1.0), (1.0, 0.0))
    Axes(angle_deg=90, rotation=rotation, scale=1, condition=1, residual=0, moves=3).write(
        tmp_path / "axes.json"
    )
    words = ["drive", "robot=mujoco", "task=reach", *MOVE, "samples=30", "iterations=2", "elites=6"]
    assert main([*words, f"axes={tmp_path}/axes.json", f"out={tmp_path}/a"]) == 0
    assert main([*words, f"out={tmp_path}/b"]) == 0
    turned, straight = (
        json.loads((tmp_path / k / "summary.json").read_text())["final_error_m"]["median"]
        for k in ("a", "b")
    )
    assert straight < turned


def test_a_view_is_compared_with_its_reference(tmp_path, capsys):
    words = ["check-view", "robot=mujoco", "seed=4"]
    assert main([*words, f"out={tmp_path}/first"]) == 0
    reference = tmp_path / "first" / "view.png"
    assert main([*words, f"reference={reference}", f"out={tmp_path}/same"]) == 0
    assert json.loads((tmp_path / "same" / "summary.json").read_text())["difference"] < 1e-6
    moved = np.roll(np.array(Image.open(reference)), 9, axis=1)
    Image.fromarray(moved).save(tmp_path / "moved.png")
    assert main([*words, f"reference={tmp_path}/moved.png", f"out={tmp_path}/off"]) == 2
    assert "turn the camera" in capsys.readouterr().err
    assert (tmp_path / "off" / "overlay.png").is_file()


def test_goals_by_keys_can_be_driven_to(tmp_path, monkeypatch, capsys):
    lines = iter(["ww d", "k there 6", "", "nonsense!", "cf", "k never 0", "k down", "q"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    goals = tmp_path / "goals"
    assert main(["capture-goal", "robot=mujoco", *MOVE, f"out={goals}"]) == 0
    assert json.loads((goals / "summary.json").read_text()) == {
        "goals": ["there", "down"],
        "steps": [6, 8],
    }
    words = ["drive", "robot=mujoco", *MOVE, f"goals={goals}", "steps=[2,1]", "samples=30"]
    assert main([*words, "iterations=2", "elites=6", f"out={tmp_path}/run"]) == 0
    monkeypatch.setattr("builtins.input", lambda _: "q")
    assert main(["capture-goal", "robot=mujoco", *MOVE, f"out={goals}"]) == 2
    assert "holds goals already" in capsys.readouterr().err


class Keeps:
    """Notes what is kept and pressed."""

    def __init__(self):
        self.calls = []

    def keep(self, name, steps):
        self.calls.append((name, steps))
        return Path("goal.png")

    def press(self, keys):
        self.calls.append(keys)
        return []


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("k", ("", None)),
        ("k cup", ("cup", None)),
        ("k 12", ("12", None)),
        ("k red cup 12", ("red cup", 12)),
        ("k  ../red   cup", ("../red cup", None)),
        ("k cup ²", ("cup ²", None)),
        ("w  aa\tc", "waac"),
    ],
)
def test_names_may_have_spaces_and_so_may_keys(line, call):
    capture = Keeps()
    follow(capture, line)
    assert capture.calls == [call]


@pytest.mark.parametrize("line", ["k cup 0", "k cup -3", "k cup 100001", "x", "kw", "W"])
def test_other_lines_do_nothing_and_say_what_is_allowed(line):
    capture = Keeps()
    assert "allowed: 1 to 100000" in follow(capture, line) or follow(capture, line) == HELP
    assert capture.calls == []


def test_every_name_gives_a_file_in_the_folder(tmp_path):
    names = ["red cup", "../up", "/a/b", "..", "naïve 杯", "x" * 300, "a\0b"]
    image = np.zeros((4, 4, 3), np.uint8)
    for index, name in enumerate(names):
        path = write_goal(tmp_path / "goals", index, GoalPicture(name, image))
        assert path.parent == tmp_path / "goals"
    assert [goal.name for goal in read_goals(tmp_path / "goals", [])] == names
    assert (tmp_path / "goals" / "00-red-cup.png").is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["goals"]
