"""`worldmodel capture-goal`: record goal images while moving the arm by keys or by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planning.arm_options import CaptureOptions
from planning.cli.terminal import Terminal

if TYPE_CHECKING:
    from planning.apps.capture_goals import GoalCapture

Options = CaptureOptions

HELP = """Type keys, then Enter: w/s forward/back, a/d left/right, r/f up/down, c/o close/open.
k NAME [STEPS] keeps this image as the next goal; q ends. By hand: guide the arm, then k."""


def follow(capture: GoalCapture, line: str) -> str:
    """Execute one typed line and return the text to print."""
    from planning.apps.capture_goals import KEYS

    words = line.split()
    if words[0] == "k":
        steps = int(words[2]) if len(words) > 2 and words[2].isdigit() else None
        return str(capture.keep(words[1] if len(words) > 1 else "", steps))
    return "\n".join(capture.press(line)) if set(line) <= set(KEYS) else HELP


def run(options: CaptureOptions) -> int:
    """Read keys until q or the end of input."""
    from planning.apps.capture_goals import capture_goals

    terminal = Terminal()
    with capture_goals(options, terminal) as capture:
        terminal.tell(HELP)
        while (line := terminal.ask("> ")) not in ("", "q"):
            answer = follow(capture, line)
            if answer:
                terminal.tell(answer)
    print(f"worldmodel drive goals={options.out}")
    return 0
