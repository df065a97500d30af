"""Find the map of columns: the one that was given, DROID's names, or a guess from plain names.

A guess needs names that say what each value is, and values that fit them. It is logged and stored
with the index. Where names do not tell, the answer is an error that lists the columns.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from worldmodel.data.column_facts import ColumnFacts, list_columns, missing_columns, rlds_values
from worldmodel.data.column_map import NO_GRIPPER, ColumnMap
from worldmodel.data.episode import Array
from worldmodel.data.readers.options import ReadOptions
from worldmodel.errors import ConfigError, DataError

log = logging.getLogger(__name__)
Source = Literal["DROID", "given", "guessed"]
Turn = Literal["euler_xyz", "quat_xyzw", "quat_wxyz", "rotvec"]
POSE, GRIPPER = "observation.state.cartesian_position", "observation.state.gripper_position"
RLDS_POSE = "steps/observation/cartesian_position"
ROTATIONS: dict[Turn, tuple[tuple[str, ...], ...]] = {
    "euler_xyz": (("roll", "pitch", "yaw"),),
    "quat_xyzw": (("qx", "qy", "qz", "qw"), ("quat_x", "quat_y", "quat_z", "quat_w")),
    "quat_wxyz": (("qw", "qx", "qy", "qz"), ("quat_w", "quat_x", "quat_y", "quat_z")),
    "rotvec": (("wx", "wy", "wz"),),
}
"""Names that tell how a rotation is written."""
STATES = ("observation.state", "steps/observation/state")
ACTIONS = ("action", "steps/action")
WRIST = ("wrist", "hand", "gripper")
SAME_MOTION = 0.8
"""Correlation of commanded and carried-out moves above which an action's meaning is certain."""
MIN_MOVE_M = 1e-4


def find_map(root: Path, layout: str, options: ReadOptions) -> tuple[ColumnMap, Source]:
    """Return the map of a data set's columns, and where it is from.

    Args:
        root: Folder of the data set.
        layout: Its layout.
        options: Reader options with the given map, which may be empty.

    Raises:
        ConfigError: The map does not fit the data set, or it is missing and cannot be guessed; the
            message lists the columns and the options to give.
        DataError: The description of the data set cannot be read.
    """
    given = options.columns
    if layout == "droid":
        if not given.is_droid:
            raise ConfigError(
                f"{given.words()} has no effect: {root} holds raw DROID episodes, whose arrays "
                "have DROID's names. Leave it out"
            )
        return given, "DROID"
    if given.is_droid and _has_droid_names(root, layout, options):
        return given, "DROID"
    facts = list_columns(root, layout, options)
    if not given.is_droid:
        missing = missing_columns(given, facts, layout)
        if facts and missing:
            raise ConfigError(
                f"{root} has no column {missing[0]!r} of the kind that the map names.\n"
                f"{describe_columns(facts)}"
            )
        return given, "given"
    found = _guess(facts)
    if isinstance(found, str):
        raise ConfigError(f"{root}: {found}\n{describe_columns(facts)}\n{advice(root, facts)}")
    log.warning(
        "the columns of %s are guessed from their names: %s. If that is wrong, give map=FILE or "
        "these options",
        root,
        found.words(),
    )
    return found, "guessed"


def _has_droid_names(root: Path, layout: str, options: ReadOptions) -> bool:
    """Return whether columns have DROID's names, or nothing tells that they do not."""
    if layout == "rlds":
        values = rlds_values(root, options)
        others = [k for k in values if k.startswith("steps/observation/") and k != RLDS_POSE]
        return RLDS_POSE in values or not others
    from worldmodel.data.readers.lerobot_list import frame_keys, read_info, view_keys

    info = read_info(root, options.links)
    features = info.get("features", {})
    frames = frame_keys(info)
    numbers = [name for name in features if name not in frames]
    return not numbers or (POSE in numbers and bool(view_keys(info) or not frames))


def describe_columns(facts: list[ColumnFacts]) -> str:
    """Return the columns as lines of text."""
    lines = [f"  {fact.line()}" for fact in facts]
    return "\n".join(["Its columns (shape, names of the values, range):", *lines])


def advice(root: Path, facts: list[ColumnFacts]) -> str:
    """Return the options to give, with an example made of the columns that were found."""
    frames = [fact.name for fact in facts if fact.is_frames]
    numbers = [fact for fact in facts if not fact.is_frames]
    states = [fact for fact in numbers if "state" in fact.name.lower()] or numbers
    state = states[0] if states else None
    name, width = (state.name, sum(state.shape[:1])) if state else ("COLUMN", 7)
    camera = f"left={frames[0] if frames else 'COLUMN'}"
    pose = f"state={name}[0:6] rotation=euler_xyz gripper={name}[{max(6, width - 1)}]"
    joints = (
        f"state={name}[0:{max(1, width - 1)}] state_kind=joints robot_file=ARM.urdf "
        f"robot_body=LINK gripper={name}[{max(1, width - 1)}]"
    )
    return (
        "Say which columns are which, for example one of\n"
        f"  worldmodel data index root={root} {pose} {camera}\n"
        f"  worldmodel data index root={root} {joints} {camera}\n"
        "or put the options into a file and give map=FILE.yaml. `worldmodel data index --help` "
        "lists units, rotations, frames and kinds of actions."
    )


def _guess(facts: list[ColumnFacts]) -> ColumnMap | str:
    """Return a map, or why names and values do not tell one."""
    cameras = guess_cameras([fact.name for fact in facts if fact.is_frames])
    by_name = {fact.name: fact for fact in facts}
    if not cameras:
        return "no column holds frames of a camera."
    if POSE in by_name and GRIPPER in by_name:
        return ColumnMap(
            state=POSE,
            gripper=GRIPPER,
            left=cameras.get("left", ""),
            right=cameras.get("right", ""),
            wrist=cameras.get("wrist", ""),
        )
    state = next((by_name[name] for name in STATES if name in by_name), None)
    if state is None or not state.names:
        return "the names of the columns do not tell which are the robot's state."
    pose = _named_pose(state.names)
    if pose is None:
        return (
            f"{state.name} holds {', '.join(state.names)}, which is not the pose of an end "
            "effector by its names."
        )
    first, rotation, width = pose
    gripper = [i for i, name in enumerate(state.names) if "gripper" in name.lower()]
    if len(gripper) > 1:
        return f"{state.name} has several grippers."
    doubt = _doubt(state, first, rotation, gripper)
    if doubt:
        return doubt
    found = ColumnMap(
        state=f"{state.name}[{first}:{first + width}]",
        rotation=rotation,
        gripper=f"{state.name}[{gripper[0]}]" if gripper else NO_GRIPPER,
        left=cameras.get("left", ""),
        right=cameras.get("right", ""),
        wrist=cameras.get("wrist", ""),
    )
    action = next((by_name[name] for name in ACTIONS if name in by_name), None)
    return _with_actions(found, state, action, (first, width), gripper)


def _named_pose(names: tuple[str, ...]) -> tuple[int, Turn, int] | None:
    """Return the place, the kind of rotation and the width of a pose that the names tell."""
    plain = [name.lower().removesuffix(".pos").rpartition(".")[2] for name in names]
    for kind, spellings in ROTATIONS.items():
        for spelling in spellings:
            width = 3 + len(spelling)
            for first in range(len(plain) - width + 1):
                place, turn = plain[first : first + 3], plain[first + 3 : first + width]
                if place == ["x", "y", "z"] and turn == list(spelling):
                    return first, kind, width
    return None


def _doubt(state: ColumnFacts, first: int, rotation: str, gripper: list[int]) -> str:
    """Return why the values contradict the units that a guess would assume; empty if none do."""
    values = state.values_TW
    if values is None or values.shape[1] != len(state.names):
        return f"{state.name} cannot be read in the first episodes, so its units are not known."
    if np.abs(values[:, first : first + 3]).max() > 3:
        return f"the positions in {state.name} are not metres; give position_unit=mm or cm."
    if rotation in ("euler_xyz", "rotvec") and np.abs(values[:, first + 3 : first + 6]).max() > 6.3:
        return f"the angles in {state.name} are not radians; give angle_unit=deg."
    if gripper:
        opening = values[:, gripper[0]]
        if opening.min() < -0.1 or opening.max() > 1.1 or 0 < np.ptp(opening) < 0.3:
            return (
                f"the gripper in {state.name} goes from {opening.min():.3g} to "
                f"{opening.max():.3g}; give gripper_open= and gripper_closed=."
            )
    return ""


def _with_actions(
    found: ColumnMap,
    state: ColumnFacts,
    action: ColumnFacts | None,
    pose: tuple[int, int],
    gripper: list[int],
) -> ColumnMap:
    """Add the action's column where its names are the state's and its values tell its meaning."""
    values, moved = state.values_TW, action.values_TW if action is not None else None
    if action is None or action.names != state.names or values is None or moved is None:
        return found
    if moved.shape != values.shape:
        return found
    first, width = pose
    meaning = _meaning(values[:, first : first + 3], moved[:, first : first + 3])
    if meaning == "derived":
        return found
    columns = f"{action.name}[{first}:{first + width}]"
    if meaning == "target" and gripper:
        grip = f"{action.name}[{gripper[0]}]"
        return replace(found, actions=meaning, action=columns, action_gripper=grip)
    return replace(found, actions=meaning, action=columns)


def _meaning(states_T3: Array, actions_T3: Array) -> Literal["derived", "delta", "target"]:
    """Return whether actions are the next positions, or differences of positions."""
    carried_out = np.diff(states_T3, axis=0)
    if np.abs(carried_out).max() < MIN_MOVE_M or not np.isfinite(actions_T3).all():
        return "derived"
    as_target, as_delta = actions_T3[:-1] - states_T3[:-1], actions_T3[:-1]
    if _same_motion(as_target, carried_out):
        return "target"
    return "delta" if _same_motion(as_delta, carried_out) else "derived"


def _same_motion(commanded: Array, carried_out: Array) -> bool:
    """Return whether moves agree in direction, and in size within a factor of 2."""
    norms = float(np.linalg.norm(commanded)), float(np.linalg.norm(carried_out))
    if min(norms) <= 0 or not 0.5 <= norms[0] / norms[1] <= 2:
        return False
    return float((commanded * carried_out).sum()) / (norms[0] * norms[1]) > SAME_MOTION


def guess_cameras(names: list[str]) -> dict[str, str]:
    """Return camera name -> column: the wrist camera by its name, the others left, then right."""
    colour = [name for name in names if "depth" not in name.lower()]
    wrist = [name for name in colour if any(word in name.lower() for word in WRIST)]
    others = sorted(name for name in colour if name not in wrist)
    if len(others) > 1:
        others.sort(key=lambda name: "right" in name.lower().replace("_", "."))
    found = dict(zip(("left", "right"), others, strict=False))
    if wrist:
        found["wrist"] = wrist[0]
    return found


def blame_map(columns: ColumnMap, root: Path, layout: str, options: ReadOptions) -> str:
    """Return what to change if a map makes all episodes unusable."""
    if columns.is_droid:
        return ""
    try:
        facts = list_columns(root, layout, options)
    except DataError:
        facts = []
    return (
        f"\nThe columns were read as {columns.words()}. {describe_columns(facts)}\n"
        "If a column, unit or rotation is another one, give it in place of these."
    )
