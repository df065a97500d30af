"""Goal images on disk, each with a JSON file of its name, step budget and robot state."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from planning.atomic_write import json_text, write_bytes, write_text
from planning.errors import PlanError
from planning.pictures import read_image
from planning.states import check_state

KINDS = {".png", ".jpg", ".jpeg", ".bmp"}
MAX_STEPS = 100_000
"""Maximum step budget of a goal."""
DEFAULT_STEPS = 8
MAX_OTHERS = 7
"""Maximum number of further cameras of a goal."""


def _unknown() -> NDArray[np.float32]:
    return np.full(7, np.nan, np.float32)


@dataclass(frozen=True)
class GoalPicture:
    """A sub-goal read from files."""

    name: str
    """Name of the sub-goal."""
    image: NDArray[np.uint8]
    """RGB [H, W, 3] as the camera captured it."""
    state: NDArray[np.float32] = field(default_factory=_unknown)
    """Robot state [7] at which the image was taken; NaN if unknown."""
    steps: int = DEFAULT_STEPS
    """Step budget."""
    others: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Images of further cameras by name; empty for the main one alone."""


def write_goal(folder: Path, index: int, goal: GoalPicture) -> Path:
    """Write `<index>-<name>.png` with its JSON file, and return the image's path.

    Images of further cameras are `others/<index>-<name>-<camera>.png`. In the files' names, `-`
    takes the place of what is not a letter, digit, `_`, `-` or `.`, and the name's first 60
    characters count.
    """
    name = re.sub(r"[^\w.-]+", "-", goal.name)[:60]
    path = folder / f"{index:02d}-{name}.png"
    images = {path: goal.image}
    images |= {other_path(path, camera): image for camera, image in goal.others.items()}
    for file, image in images.items():
        picture = io.BytesIO()
        Image.fromarray(image).save(picture, "PNG")
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, picture.getvalue())
    facts = {
        "name": goal.name,
        "steps": goal.steps,
        "state": [float(v) for v in goal.state],
        "size": list(goal.image.shape[:2]),
        **({"others": list(goal.others)} if goal.others else {}),
    }
    write_text(path.with_suffix(".json"), json_text(facts, indent=1))
    return path


def other_path(path: Path, camera: str) -> Path:
    """Return the file of a goal's image of a further camera, for the main image's path.

    Raises:
        PlanError: The name cannot be a part of a file's name.
    """
    if not re.fullmatch(r"\w[\w-]{0,60}", camera):
        raise PlanError(f"{path.name}: camera {camera[:60]!r}; allowed: letters, digits, - and _")
    return path.parent / "others" / f"{path.stem}-{camera}.png"


def _read(path: Path) -> GoalPicture:
    image, facts = read_image(path), path.with_suffix(".json")
    if not facts.is_file():
        return GoalPicture(path.stem, image)
    try:
        said = json.loads(facts.read_text(encoding="utf-8"))
        state = np.array(said["state"], np.float32)
        name, steps = str(said["name"]), said["steps"]
        cameras = [str(camera) for camera in said.get("others", [])][:MAX_OTHERS]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise PlanError(f"{facts} is damaged ({error!r}): capture the goal again") from error
    if not (isinstance(steps, int) and 1 <= steps <= MAX_STEPS):
        raise PlanError(f"{facts}: steps={steps!r}; allowed: 1 to {MAX_STEPS}")
    others = {camera: read_image(other_path(path, camera)) for camera in cameras}
    goal = GoalPicture(name, image, state, steps, others)
    if state.shape != (7,):
        raise PlanError(f"{facts}: state has shape {state.shape}; allowed: seven numbers")
    if not np.isnan(state).all():
        check_state(state, f"{facts}: state")
    return goal


def _pictures_in(path: Path) -> list[Path]:
    """Return a folder's images in sorted order, or the given file itself."""
    if not path.is_dir():
        return [path]
    return sorted(p for p in path.iterdir() if p.suffix.lower() in KINDS)


def read_goals(where: str | Path | Sequence[str | Path], steps: list[int]) -> list[GoalPicture]:
    """Read the goal images of a folder, a file, or a list of either, in order.

    Args:
        where: Path or list of paths.
        steps: Step budget of each goal; empty uses those of the JSON files, else 8.

    Raises:
        PlanError: The path is empty or missing, a file is not an image, or the numbers of budgets
            and goals differ.
    """
    named = [Path(p) for p in ([where] if isinstance(where, str | Path) else where)]
    paths = [picture for path in named for picture in _pictures_in(path)]
    if not paths:
        listed = ", ".join(map(str, named)) or "an empty list"
        raise PlanError(f"No images in {listed}: capture some with `worldmodel capture-goal`")
    goals = [_read(path) for path in paths]
    if not steps:
        return goals
    if len(steps) != len(goals) or min(steps) < 1:
        raise PlanError(
            f"steps={steps} for {len(goals)} goals; allowed: one budget of 1 or more for each goal"
        )
    return [replace(goal, steps=n) for goal, n in zip(goals, steps, strict=True)]
