"""Goal pictures on disk: PNGs in order, each with a JSON of its name, budget and state."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from planning.errors import PlanError

KINDS = {".png", ".jpg", ".jpeg", ".bmp"}
DEFAULT_STEPS = 8


def _unknown() -> NDArray[np.float32]:
    return np.full(7, np.nan, np.float32)


@dataclass(frozen=True)
class GoalPicture:
    """A sub-goal from a file."""

    name: str
    image: NDArray[np.uint8]
    """RGB [H, W, 3] as the camera gave it."""
    state: NDArray[np.float32] = field(default_factory=_unknown)
    """Robot state in the picture [7]; NaN where nobody wrote it down."""
    steps: int = DEFAULT_STEPS


def write_goal(folder: Path, index: int, goal: GoalPicture) -> Path:
    """Write `<index>-<name>.png` and the JSON beside it; returns the picture's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{index:02d}-{goal.name}.png"
    Image.fromarray(goal.image).save(path)
    facts = {
        "name": goal.name,
        "steps": goal.steps,
        "state": [float(v) for v in goal.state],
        "size": list(goal.image.shape[:2]),
    }
    path.with_suffix(".json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return path


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a picture as RGB [H, W, 3].

    Raises:
        PlanError: no file, or it is no picture.
    """
    try:
        with Image.open(path) as picture:
            return np.array(picture.convert("RGB"))
    except (OSError, ValueError) as error:
        raise PlanError(f"{path} cannot be read as a picture: {error}") from error


def _read(path: Path) -> GoalPicture:
    image, facts = read_image(path), path.with_suffix(".json")
    if not facts.is_file():
        return GoalPicture(path.stem, image)
    try:
        said = json.loads(facts.read_text(encoding="utf-8"))
        state = np.array(said["state"], np.float32)
        goal = GoalPicture(str(said["name"]), image, state, int(said["steps"]))
    except (ValueError, KeyError, TypeError) as error:
        raise PlanError(f"{facts} is damaged ({error!r}): capture the goal again") from error
    if state.shape != (7,):
        raise PlanError(f"{facts}: state has shape {state.shape}; wanted seven numbers")
    return goal


def read_goals(where: Any, steps: list[int]) -> list[GoalPicture]:
    """Goal pictures of a folder, a file, or a list of files, in order.

    Args:
        where: path or list of paths.
        steps: budgets, one a goal; empty: those of the JSON files, else 8.

    Raises:
        PlanError: nothing there, no picture, or not as many budgets as goals.
    """
    named = [Path(str(p)) for p in (where if isinstance(where, list) else [where])]
    paths: list[Path] = []
    for path in named:
        inside = (
            sorted(p for p in path.iterdir() if p.suffix.lower() in KINDS)
            if (path.is_dir())
            else [path]
        )
        paths += inside
    if not paths:
        raise PlanError(f"No pictures in {named}: `worldmodel capture-goal` makes them")
    goals = [_read(path) for path in paths]
    if not steps:
        return goals
    if len(steps) != len(goals) or min(steps) < 1:
        raise PlanError(f"steps={steps} for {len(goals)} goals; wanted one budget over 0 for each")
    return [replace(goal, steps=n) for goal, n in zip(goals, steps, strict=True)]
