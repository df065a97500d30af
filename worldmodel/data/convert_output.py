"""The output folder of a conversion: unfinished parts, and their move to their place at the end."""

from __future__ import annotations

import shutil
from pathlib import Path

from worldmodel.errors import ConfigError

UNFINISHED = "unfinished"
"""Folder of what a stopped conversion leaves for the next one, below its output."""
PARTS = ("videos", "data", "meta")
"""Folders of a LeRobot data set; `meta` comes last, since it makes the others a data set."""
MOVING = "moving"
"""File in `UNFINISHED` while the folders of a complete set are being moved to the output."""


def require_new(out: Path) -> None:
    """Check that an output folder is empty or missing.

    Hidden files are locks, and the folder of an unfinished conversion may be there. What that one
    had moved to the output when it was killed is moved back, and is used as its other videos are.

    Raises:
        ConfigError: It holds something else.
    """
    _move_back(out)
    there = sorted(p.name for p in out.iterdir()) if out.exists() else []
    other = [name for name in there if name[0] != "." and name != UNFINISHED]
    if other:
        raise ConfigError(f"{out} holds {other[0]}: give another out=, or empty it")


def set_folder(out: Path) -> Path:
    """Return the folder that a conversion writes, before its parts are moved to `out`."""
    return out / UNFINISHED / "set"


def move_in(out: Path) -> None:
    """Move the folders of a complete set to the output, in the place of older ones."""
    (out / UNFINISHED / MOVING).touch()
    for name in reversed(PARTS):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in PARTS:
        (set_folder(out) / name).rename(out / name)


def _move_back(out: Path) -> None:
    part, moving = set_folder(out), out / UNFINISHED / MOVING
    if not moving.is_file():
        return
    for name in reversed(PARTS):
        if (out / name).exists() and not (part / name).exists():
            (out / name).rename(part / name)
    moving.unlink()
