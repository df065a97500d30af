"""`worldmodel check-view`: compare the camera's view with a reference image."""

from __future__ import annotations

from pathlib import Path

from planning.arm_options import CheckViewOptions

Options = CheckViewOptions


def run(options: CheckViewOptions) -> int:
    """Capture an image, compare it with the reference and print the differences."""
    from planning.apps.check_view import compare_view, require_same_view, take_view

    if not options.reference:
        print(f"{take_view(options)}: keep it as the reference of this camera")
        return 0
    found = compare_view(options)
    print(f"difference {found.difference:.3f}, shifted by {found.shift_px} px (rows, columns)")
    print(f"overlay: {Path(options.out) / 'overlay.png'} (grey where both agree)")
    require_same_view(found, options)
    return 0
