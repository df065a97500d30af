"""Confirmation by the operator before an arm moves or recovers.

Services never access a terminal; the command line passes them an `Operator`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from planning.apps.workcell import Workcell
from planning.errors import DriveError
from planning.workcell_options import MotionOptions, WorkcellOptions, is_real
from robot.arm import Sent

MOVE_WORD = "move"
RECOVER_WORD = "recover"


class Operator(Protocol):
    """An interface that shows messages and answers questions."""

    def tell(self, text: str) -> None:
        """Show a message."""

    def ask(self, question: str) -> str:
        """Return the answer to a question; empty if nobody answers."""


def require_motion_confirmation(
    operator: Operator,
    workcell: Workcell,
    options: WorkcellOptions,
    motion: MotionOptions,
    what: str,
) -> None:
    """Require the typed word before the arm moves; a dry run only shows a message.

    Raises:
        DriveError: Another word was typed.
    """
    if not motion.execute:
        operator.tell("dry run: nothing will move; execute=true moves the arm")
        return
    if not motion.confirm:
        return
    limits = workcell.limits
    operator.tell(
        f"{what} will MOVE the arm ({options.name}).\n"
        f"Flange box {limits.flange_low_m} to {limits.flange_high_m} m, step at most "
        f"{limits.step_m} m, table at {limits.table_z_m} m. Keep a hand on the emergency stop, "
        "and people and objects out of the box."
    )
    if operator.ask(f"Type {MOVE_WORD} to continue: ") != MOVE_WORD:
        raise DriveError(
            f"Not confirmed: nothing has moved. Start again and type {MOVE_WORD} when it is safe."
        )


def is_attended(options: WorkcellOptions, motion: MotionOptions) -> bool:
    """Return whether an operator attends a real arm that may move."""
    return is_real(options.robot) and motion.execute and motion.confirm


def require_recovery_confirmation(
    operator: Operator, workcell: Workcell, options: WorkcellOptions, motion: MotionOptions
) -> None:
    """Show why a real arm is stopped, and recover it once the word is typed.

    Raises:
        DriveError: Nobody can be asked (dry run or confirm=false), another word was typed, or the
            arm still reports an error.
    """
    errors = "; ".join(workcell.arm.state().errors)
    if workcell.simulated or not errors:
        return
    if not is_attended(options, motion):
        raise DriveError(
            f"The arm is stopped ({errors}). Inspect it and remove the cause. Then drive with "
            f"execute=true and without confirm=false, and type {RECOVER_WORD}."
        )
    operator.tell(f"The arm is stopped: {errors}\nInspect it and remove the cause.")
    if operator.ask(f"Type {RECOVER_WORD} to clear the stop: ") != RECOVER_WORD:
        raise DriveError(f"Not recovered: the arm stays stopped ({errors}).")
    workcell.arm.recover()
    left = "; ".join(workcell.arm.state().errors)
    if left:
        raise DriveError(f"The arm did not recover ({left}). Inspect it, then check Desk.")


def step_question(operator: Operator) -> Callable[[Sent], bool]:
    """Return a function that asks before each step; only "y" or "yes" sends it."""

    def confirm(sent: Sent) -> bool:
        action = np.round(sent.action, 3).tolist()
        why = "; ".join(str(reason) for reason in sent.reasons)
        return operator.ask(f"Send {action} {why}? [y/N] ").lower() in ("y", "yes")

    return confirm
