"""Log of a drive: one JSONL line per step, flushed immediately, and the camera images.

`<folder>/log.jsonl` begins with a header that holds everything needed to replan, has one line per
step, and ends with the outcome; `frame-0000.png` and `goal-00.png` are lossless, for an exact
replay. `frame-0000-1.png` is the image of the second camera, which the line of the step names.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from planning.driving import Step
from planning.errors import PlanError
from planning.goals import MAX_OTHERS, GoalPicture
from planning.pictures import read_image
from planning.protocols import SubGoal, other_images, view_key

LOG = "log.jsonl"


def _list(values: ArrayLike) -> list[float]:
    return [float(v) for v in np.asarray(values).ravel()]


def frame_name(index: int, camera: int = 0) -> str:
    """Return the name of the file of a step's image; the main camera is number 0."""
    return f"frame-{index:04d}{f'-{camera}' if camera else ''}.png"


def goal_name(index: int, camera: int = 0) -> str:
    """Return the name of the file of a goal's image; the main camera is number 0."""
    return f"goal-{index:02d}{f'-{camera}' if camera else ''}.png"


def _goal_row(goal: SubGoal) -> dict[str, Any]:
    row = {"name": goal.name, "steps": goal.steps, "state": _list(goal.state)}
    others = list(other_images(goal))
    return row | ({"others": others} if others else {})


def step_row(step: Step) -> dict[str, Any]:
    """Return the log line of a step."""
    row: dict[str, Any] = {
        "kind": "step",
        "step": step.index,
        "time_s": time.time(),
        "frame": step.index,
        "frame_time_s": step.frame.time_s,
        **({"others": {n: f.time_s for n, f in step.others.items()}} if step.others else {}),
        "state": _list(step.state.state),
        "q": _list(step.state.q),
        "arm_time_s": float(step.state.time_s),
        "seconds": {k: round(v, 6) for k, v in step.seconds.items()},
    }
    if step.decision is None or step.sent is None:
        return row | {"last": True}
    return row | {
        "sub_goal": step.decision.sub_goal,
        "energy": step.decision.energy,
        "imagined": step.decision.imagined,
        "plan": step.decision.plan,
        "asked": _list(step.decision.action),
        "sent": _list(step.sent.action),
        "target": _list(step.sent.target),
        "refused": step.sent.refused,
        "reasons": [str(reason) for reason in step.sent.reasons],
        "reason_kinds": [reason.kind for reason in step.sent.reasons],
        "frame_age_s": round(step.frame_age_s, 4),
    }


def reason_kinds(row: dict[str, Any]) -> list[str]:
    """Return the kinds of a logged step's reasons; older logs hold them only in the texts."""
    if "reason_kinds" in row:
        return list(row["reason_kinds"])
    return [text.partition(":")[0] for text in row["reasons"]]


def new_folder(parent: Path, name: str) -> Path:
    """Create and return a folder that did not exist: `name`, else `name`-2, `name`-3, ...

    Names made from the time repeat when the clock is set back.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError


@contextlib.contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Name the file in errors of the operating system that lack it, such as a full disk.

    Raises:
        OSError: Writing failed.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


class DriveLog:
    """Writes the log of one episode.

    Args:
        folder: Folder of the log, created if missing.
        header: Options and metadata of the run.
        goals: Goal images, saved beside the log.
    """

    def __init__(self, folder: Path, header: dict[str, Any], goals: list[SubGoal]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        for i, goal in enumerate(goals):
            for number, image in enumerate([goal.image, *other_images(goal).values()]):
                path = folder / goal_name(i, number)
                with named_errors(path):
                    Image.fromarray(image).save(path)
        named = [_goal_row(goal) for goal in goals]
        self.file = (folder / LOG).open("w", encoding="utf-8")
        self.write({"kind": "begin", "time_s": time.time(), **header, "goals": named})

    def write(self, row: dict[str, Any]) -> None:
        """Append a line and flush it to disk."""
        with named_errors(self.folder / LOG):
            self.file.write(json.dumps(row) + "\n")
            self.file.flush()

    def step(self, step: Step) -> None:
        """Log a step and its images."""
        images = [step.image, *(frame.image for frame in step.others.values())]
        for number, image in enumerate(images):
            path = self.folder / frame_name(step.index, number)
            with named_errors(path):
                Image.fromarray(image).save(path, compress_level=1)
        self.write(step_row(step))

    def end(self, **facts: Any) -> None:
        """Log the outcome and close the file."""
        try:
            self.write({"kind": "end", "time_s": time.time(), **facts})
        finally:
            with contextlib.suppress(OSError):  # writes again what a full disk did not take
                self.file.close()


@dataclass(frozen=True)
class Logged:
    """A log read from disk."""

    folder: Path
    header: dict[str, Any]
    goals: list[SubGoal]
    steps: list[dict[str, Any]]
    """Rows of the steps with an action, in order."""
    end: dict[str, Any]
    """Outcome of the episode; empty if the process was killed."""

    def frame(self, index: int, camera: int = 0) -> NDArray[np.uint8]:
        """Return a camera's image [H, W, 3] of a step (in older logs, the model's input image)."""
        return read_image(self.folder / frame_name(index, camera))

    def reading(self, row: dict[str, Any]) -> dict[str, NDArray[np.generic]]:
        """Return the observation of a step: images and state, as the agent saw them."""
        images = {
            view_key(str(name)): self.frame(row["frame"], number)
            for number, name in enumerate(row.get("others", ()), start=1)
        }
        state = np.array(row["state"], dtype=np.float64).astype(np.float32)
        return {"image": self.frame(row["frame"]), **images, "state": state}


@contextlib.contextmanager
def reading_log(path: Path) -> Iterator[None]:
    """Turn what the content of a file of a log raises into an error that names the file.

    Raises:
        PlanError: An entry is missing or of another kind.
    """
    try:
        yield
    except PlanError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise PlanError(
            f"{path} is not the log of a drive ({type(error).__name__}: {str(error)[:300]}): give "
            "a folder that `worldmodel drive` wrote"
        ) from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a log, ignoring an incomplete last line left by a killed process.

    Raises:
        PlanError: The file is not a regular one, or another line is not a JSON object.
    """
    if path.exists() and not path.is_file():
        raise PlanError(f"{path} is not a regular file")
    lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                break
            raise PlanError(f"{path}, line {number} is not JSON ({str(error)[:200]})") from error
        if not isinstance(row, dict):
            raise PlanError(f"{path}, line {number} is not a JSON object")
        rows.append(row)
    return rows


def read_log(folder: Path) -> Logged:
    """Read a log, ignoring an incomplete last line left by a killed process.

    Raises:
        PlanError: The log or its header is missing, or an entry is of another kind.
    """
    path = folder / LOG
    if not path.is_file():
        raise PlanError(f"No {LOG} in {folder}: give a folder that `worldmodel drive` wrote")
    rows = read_lines(path)
    if not rows or rows[0].get("kind") != "begin":
        raise PlanError(f"{path} has no header: the drive was cut off before its first step")
    with reading_log(path):
        header = rows[0]
        int(header["seed"])
        header["options"].keys()
        goals = [_goal(folder, i, entry) for i, entry in enumerate(header["goals"])]
        steps = [_checked(row) for row in rows if row["kind"] == "step" and "asked" in row]
        end = rows[-1] if rows[-1]["kind"] == "end" else {}
    return Logged(folder, header, goals, steps, end)


def _goal(folder: Path, index: int, entry: dict[str, Any]) -> SubGoal:
    image = read_image(folder / goal_name(index))
    others = {
        str(camera): read_image(folder / goal_name(index, number))
        for number, camera in enumerate(entry.get("others", [])[:MAX_OTHERS], start=1)
    }
    state = np.array(entry["state"], np.float32)
    return GoalPicture(str(entry["name"]), image, state, int(entry["steps"]), others)


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a step whose numbers are numbers.

    Raises:
        ValueError: An array has another length.
        KeyError: An entry is missing.
    """
    for name in ("state", "asked"):
        if np.array(row[name], np.float64).shape != (7,):
            raise ValueError(f"{name} of step {row['step']} is not seven numbers")
    for name in ("step", "frame", "sub_goal"):
        if type(row[name]) is not int or row[name] < 0:
            raise ValueError(f"{name} is {str(row[name])[:50]}; allowed: 0 or more")
    float(row["energy"])
    return row
