"""`worldmodel capture-goal`: record goal images while moving the arm by keys or by hand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from planning.arm_options import CaptureOptions
from planning.cli.terminal import Terminal

if TYPE_CHECKING:
    from planning.apps.capture_goals import GoalCapture

Options = CaptureOptions

HELP = """Type keys, then Enter: w/s forward/back, a/d left/right, r/f up/down, c/o close/open.
k NAME [STEPS] keeps this image as the next goal, for instance k red cup 12; q ends.
By hand: guide the arm, then k."""


def follow(capture: GoalCapture, line: str) -> str:
    """Execute one typed line and return the text to print."""
    from planning.apps.capture_goals import KEYS
    from planning.goals import MAX_STEPS

    first, *words = line.split()
    if first == "k":
        name, steps = split_steps(words)
        if steps is not None and not 1 <= steps <= MAX_STEPS:
            return f"STEPS={steps} of {name!r}; allowed: 1 to {MAX_STEPS}. Nothing is kept."
        return str(capture.keep(name, steps))
    keys = "".join([first, *words])
    return "\n".join(capture.press(keys)) if set(keys) <= set(KEYS) else HELP


def split_steps(words: Sequence[str]) -> tuple[str, int | None]:
    """Return the name that words give to a goal, and its step budget if the last is a number."""
    if len(words) > 1 and re.fullmatch(r"-?[0-9]{1,9}", words[-1]):
        return " ".join(words[:-1]), int(words[-1])
    return " ".join(words), None


def run(options: CaptureOptions) -> int:
    """Read keys until q or the end of input."""
    from planning.apps.capture_goals import capture_goals

    terminal = Terminal()
    with capture_goals(options, terminal) as capture:
        terminal.tell(HELP)
        while (line := terminal.ask("> ")) != "q" and not terminal.ended:
            if line and (answer := follow(capture, line)):
                terminal.tell(answer)
    print(shlex.join(["worldmodel", "drive", f"goals={options.out}"]))
    return 0
