"""Capture goal images of a workcell while the arm is moved by keys or by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from planning.apps.open_workcell import open_workcell
from planning.apps.operator import Operator, require_motion_confirmation, step_question
from planning.apps.workcell import Workcell, safe_arm
from planning.arm_options import CaptureOptions
from planning.errors import DriveError
from planning.goals import GoalPicture, write_goal
from robot.safety.layer import SafeArm
from worldmodel.atomic_io import write_json

GRIPPER = 6
KEYS = {
    "w": (0, 1.0),
    "s": (0, -1.0),
    "a": (1, 1.0),
    "d": (1, -1.0),
    "r": (2, 1.0),
    "f": (2, -1.0),
    "c": (GRIPPER, 1.0),
    "o": (GRIPPER, -1.0),
}
"""Action component and sign of each key."""


class GoalCapture:
    """Moves the arm by keys and saves images as goals."""

    def __init__(self, options: CaptureOptions, workcell: Workcell, arm: SafeArm) -> None:
        self.options, self.workcell, self.arm = options, workcell, arm
        self.goals: list[GoalPicture] = []

    def press(self, keys: str) -> list[str]:
        """Execute keys one after another; return why steps were changed or refused."""
        messages = []
        for key in keys:
            axis, sign = KEYS[key]
            action = np.zeros(7)
            action[axis] = sign if axis == GRIPPER else sign * self.options.step_m
            sent = self.arm.send(action)
            if sent.reasons:
                messages.append(f"{key}: {'; '.join(str(reason) for reason in sent.reasons)}")
        return messages

    def keep(self, name: str = "", steps: int | None = None) -> Path:
        """Save the current image as the next goal and return its path.

        Args:
            name: Name of the goal; empty numbers it.
            steps: Its step budget; None takes that of the options.
        """
        index = len(self.goals)
        goal = GoalPicture(
            name or f"goal{index + 1}",
            np.ascontiguousarray(self.workcell.checked().read().image),
            self.workcell.arm.state().state.astype(np.float32),
            self.options.steps if steps is None else steps,
            {
                name: np.ascontiguousarray(camera.read().image)
                for name, camera in self.workcell.checked_views().items()
            },
        )
        path = write_goal(Path(self.options.out), index, goal)
        self.goals.append(goal)
        return path


@contextmanager
def capture_goals(options: CaptureOptions, operator: Operator) -> Iterator[GoalCapture]:
    """Connect to the workcell, yield a capture, and write `summary.json` at the end.

    Raises:
        DriveError: The folder already holds goals, or none was saved.
    """
    out = Path(options.out)
    if list(out.glob("*.png")):
        raise DriveError(f"{out} holds goals already. Choose another out=.")
    cell, motion = options.workcell, options.motion
    with open_workcell(cell) as workcell:
        require_motion_confirmation(operator, workcell, cell, motion, "Each key")
        workcell.open_views(options.energy_views[1:], options.view_sources)
        workcell.begin(options.seed)
        confirm = step_question(operator) if motion.confirm_each else None
        arm = safe_arm(cell, workcell, execute=motion.execute, confirm=confirm)
        capture = GoalCapture(options, workcell, arm)
        yield capture
    if not capture.goals:
        raise DriveError("No goal was kept. Type k to keep the current camera image.")
    names, steps = [g.name for g in capture.goals], [g.steps for g in capture.goals]
    write_json(out / "summary.json", {"goals": names, "steps": steps})
