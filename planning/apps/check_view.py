"""Compare a camera's view with its reference image."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from planning.apps.open_workcell import open_workcell
from planning.arm_options import CheckViewOptions
from planning.errors import DriveError
from planning.pictures import read_image
from robot.calibrate import View, compare_views, overlay
from worldmodel.atomic_io import atomic_file, write_json


def take_view(options: CheckViewOptions) -> Path:
    """Capture an image, write `view.png` and return its path."""
    with open_workcell(options.workcell) as workcell:
        workcell.begin(options.seed)
        view = np.ascontiguousarray(workcell.checked().read().image)
    path = Path(options.out) / "view.png"
    with atomic_file(path) as part:
        Image.fromarray(view).save(part, "PNG")
    return path


def compare_view(options: CheckViewOptions) -> View:
    """Capture an image, compare it with the reference, and write overlay.png and summary.json."""
    reference = read_image(Path(options.reference))
    path = take_view(options)
    view = read_image(path)
    found = compare_views(view, reference)
    with atomic_file(path.with_name("overlay.png")) as part:
        Image.fromarray(overlay(view, reference)).save(part, "PNG")
    write_json(path.with_name("summary.json"), dataclasses.asdict(found))
    return found


def require_same_view(found: View, options: CheckViewOptions) -> None:
    """Check the difference and the shift against their limits.

    Raises:
        DriveError: The view differs too much from its reference.
    """
    shift = float(np.abs(found.shift_px).max())  # max() would drop a NaN
    if shift <= options.max_shift_px and found.difference <= options.max_difference:
        return
    raise DriveError(
        f"The view differs by {found.difference:.3f} and {shift:.1f} px. Allowed: "
        f"{options.max_difference} and {options.max_shift_px} px. To fix it, turn the camera until "
        "the overlay is grey, or take a new reference and calibrate again."
    )
