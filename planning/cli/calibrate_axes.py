"""`worldmodel calibrate axes`: estimate the rotation from the model's axes to the arm's."""

from __future__ import annotations

from pathlib import Path

from planning.arm_options import CalibrateOptions
from planning.cli.terminal import Terminal

Options = CalibrateOptions


def run(options: CalibrateOptions) -> int:
    """Calibrate and print the rotation; a poor calibration is an error and writes no file."""
    from planning.apps.calibrate import calibrate_axes

    axes = calibrate_axes(options, Terminal())
    print(
        f"angle {axes.angle_deg:.1f} deg, scale {axes.scale:.2f}, condition {axes.condition:.2f}, "
        f"residual {axes.residual:.0%} of {axes.moves} moves"
    )
    print(f"To use it: worldmodel drive axes={Path(options.out) / 'axes.json'}")
    return 0
