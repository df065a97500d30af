"""`worldmodel check-view`: is the camera where it was when the reference was taken?"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from planning.apps.workcell import WorkcellOptions, _text, open_workcell
from planning.errors import DriveError
from planning.goals import read_image
from robot.calibrate import compare_views, overlay


@dataclass(kw_only=True)
class Options(WorkcellOptions):
    """Options of `worldmodel check-view`."""

    reference: str = _text("", "picture to compare with; empty: only take one")
    max_difference: float = _text(0.1, "mean difference of grey levels, 0..1")
    max_shift_px: float = _text(3.0, "of the picture as a whole")
    out: str = _text("runs/view", "folder of view.png, overlay.png and summary.json")


def run(options: Options) -> int:
    """Take a picture, compare, say what differs; 1 when it is too much."""
    out = Path(options.out)
    reference = read_image(Path(options.reference)) if options.reference else None
    with open_workcell(options) as workcell:
        workcell.begin(options.seed)
        view = np.ascontiguousarray(workcell.checked().read().image)
    out.mkdir(parents=True, exist_ok=True)
    Image.fromarray(view).save(out / "view.png")
    if reference is None:
        print(f"{out / 'view.png'}: keep it as the reference of this camera")
        return 0
    found = compare_views(view, reference)
    Image.fromarray(overlay(view, reference)).save(out / "overlay.png")
    (out / "summary.json").write_text(json.dumps(dataclasses.asdict(found), indent=1))
    shift = max(abs(v) for v in found.shift_px)
    print(f"difference {found.difference:.3f}, shifted by {found.shift_px} px (rows, columns)")
    print(f"overlay: {out / 'overlay.png'} (grey fits, colours do not)")
    if shift > options.max_shift_px or found.difference > options.max_difference:
        raise DriveError(
            f"The view differs (at most {options.max_difference} and {options.max_shift_px} px): "
            "turn the camera until the overlay is grey, or take a new reference and calibrate"
        )
    return 0
