"""`worldmodel capture-goal`: goal pictures in order, moving the arm by keys or by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from planning.apps.workcell import (
    Workcell,
    WorkcellOptions,
    _text,
    ask,
    open_workcell,
    require_motion_confirmation,
    safe_arm,
)
from planning.errors import DriveError
from planning.goals import GoalPicture, write_goal
from robot.safety.layer import SafeArm

KEYS = {
    "w": (0, 1.0),
    "s": (0, -1.0),
    "a": (1, 1.0),
    "d": (1, -1.0),
    "r": (2, 1.0),
    "f": (2, -1.0),
    "c": (6, 1.0),
    "o": (6, -1.0),
}
HELP = """keys, then Enter: w/s forward/back, a/d left/right, r/f up/down, c/o close/open
k NAME [STEPS] keeps this picture as the next goal; q ends. By hand: guide the arm, then k."""


@dataclass(kw_only=True)
class Options(WorkcellOptions):
    """Options of `worldmodel capture-goal`."""

    step_m: float = _text(0.02, "of one key")
    steps: int = _text(8, "budget of a goal where k names none")
    out: str = _text("runs/goals", "folder that `worldmodel drive goals=` reads")


def press(arm: SafeArm, keys: str, step_m: float) -> None:
    """Carry out the keys of a line, one after another."""
    for key in keys:
        axis, sign = KEYS[key]
        action = np.zeros(7)
        action[axis] = sign if axis == 6 else sign * step_m
        sent = arm.send(action)
        if sent.reasons:
            print(f"{key}: {sent.reason_text}")


def keep(options: Options, workcell: Workcell, words: list[str], index: int) -> GoalPicture:
    """Write the present picture as a goal."""
    name = words[1] if len(words) > 1 else f"goal{index + 1}"
    steps = int(words[2]) if len(words) > 2 and words[2].isdigit() else options.steps
    image = np.ascontiguousarray(workcell.checked().read().image)
    state = workcell.arm.state().state.astype(np.float32)
    goal = GoalPicture(name, image, state, steps)
    print(write_goal(Path(options.out), index, goal))
    return goal


def run(options: Options) -> int:
    """Read keys until q or the end of input."""
    if list(Path(options.out).glob("*.png")):
        raise DriveError(f"{options.out} holds goals already: choose another out=")
    goals: list[GoalPicture] = []
    with open_workcell(options) as workcell:
        require_motion_confirmation(options, workcell, "Each key")
        workcell.begin(options.seed)
        arm = safe_arm(options, workcell)
        print(HELP)
        while (line := ask("> ")) not in ("", "q"):
            words = line.split()
            if words[0] == "k":
                goals.append(keep(options, workcell, words, len(goals)))
            elif set(line) <= set(KEYS):
                press(arm, line, options.step_m)
            else:
                print(HELP)
    if not goals:
        raise DriveError("No goal was kept: k keeps the picture that the camera sees")
    summary = {"goals": [g.name for g in goals], "steps": [g.steps for g in goals]}
    (Path(options.out) / "summary.json").write_text(json.dumps(summary, indent=1))
    print(f"worldmodel drive goals={options.out}")
    return 0
