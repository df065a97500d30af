"""Which columns of a data set are the state, the actions, the gripper and the cameras.

An empty map means DROID's own names. A map is part of an index: it is stored in its summary, and a
changed map inspects every episode again. This module does not import torch, so that `--help` is
fast.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError

StateKind = Literal["pose", "joints"]
Rotation = Literal[
    "euler_xyz", "euler_XYZ", "quat_xyzw", "quat_wxyz", "rotvec", "6d", "matrix", "none"
]
ROTATION_WIDTH: dict[str, int] = {
    "euler_xyz": 3,
    "euler_XYZ": 3,
    "quat_xyzw": 4,
    "quat_wxyz": 4,
    "rotvec": 3,
    "6d": 6,
    "matrix": 9,
    "none": 0,
}
"""Number of values of each way to write a rotation."""
UNITS_M = {"m": 1.0, "cm": 0.01, "mm": 0.001}
"""Length of a unit [m]."""
NO_GRIPPER = "none"
PART = re.compile(r"([^\[\]]+?)(?:\[(-?\d{1,6})?(:)?(-?\d{1,6})?\])?")
"""A column, an element of it, or a slice of it."""


@dataclass(frozen=True)
class Part:
    """Values of one column."""

    name: str
    first: int | None = None
    """First value; None for the beginning."""
    last: int | None = None
    """Value after the last; None for the end."""


def parse_columns(option: str, text: str) -> tuple[Part, ...]:
    """Parse `COLUMN`, `COLUMN[6]`, `COLUMN[0:6]`, or several joined by `+`.

    Args:
        option: Name of the option, for messages.
        text: Value of the option.

    Raises:
        ConfigError: The text has another form.
    """
    return tuple(_parse_part(option, part.strip()) for part in text.split("+"))


def _parse_part(option: str, text: str) -> Part:
    match = PART.fullmatch(text)
    if match is None or text.endswith("[]"):
        raise ConfigError(
            f"{option}: {text[:200]!r} is not a column; allowed: COLUMN, COLUMN[6], COLUMN[0:6] or "
            "several joined by +"
        )
    name, low, colon, high = match.groups()
    first, last = (None if x is None else int(x) for x in (low, high))
    if first is not None and not colon:
        return Part(name, first, first + 1 if first != -1 else None)
    return Part(name, first, last)


@dataclass(frozen=True, kw_only=True)
class ColumnMap(Checked):
    """Columns of a data set with names of its own; leave all out for DROID's names.

    A column is written COLUMN, COLUMN[6], COLUMN[0:6], or as several joined by +.
    """

    state: str = ""
    """Columns of the robot state: position, then rotation (state_kind=pose), or joint positions
    (state_kind=joints); for example observation.state[0:6]."""
    state_kind: StateKind = "pose"
    """Content of `state`: the end effector's pose, or joint positions, from which robot_file's
    forward kinematics computes it."""
    position_unit: Literal["m", "cm", "mm"] = "m"
    """Unit of positions."""
    rotation: Rotation = "euler_xyz"
    """Rotation of a pose: euler_xyz (about the fixed axes, as DROID's roll pitch yaw), euler_XYZ
    (about the moving axes), quaternions, rotation vector, 6d (first two columns of the matrix),
    matrix (9 values, row by row), or none (the hand points down)."""
    angle_unit: Literal["rad", "deg"] = "rad"
    """Unit of Euler angles, rotation vectors and joint positions."""
    frame: Literal["base", "camera"] = "base"
    """Frame in which poses are given: the robot's base, or a camera at camera_pose."""
    camera_pose: tuple[float, ...] = field(default=(), metadata=between(-100, 100))
    """Pose of that camera in the base frame, [x, y, z, roll, pitch, yaw] in m and rad; needed with
    frame=camera or action_frame=camera."""
    point: Literal["flange", "tcp"] = "flange"
    """Point whose position the poses hold; tcp lies 0.1034 m in front of the flange."""
    gripper: str = ""
    """Column of the gripper's opening, or none for a robot without one."""
    gripper_open: float = field(default=0.0, metadata=between(-1e6, 1e6))
    """Value of `gripper` at which it is open."""
    gripper_closed: float = field(default=1.0, metadata=between(-1e6, 1e6))
    """Value of `gripper` at which it is closed; a width in m has, for example, gripper_open=0.08
    gripper_closed=0."""
    robot_file: str = ""
    """URDF or MJCF file of the robot, for state_kind=joints."""
    robot_body: str = ""
    """Body, site or link of robot_file whose pose is the state."""
    robot_joints: tuple[str, ...] = ()
    """Joints of robot_file in the order of `state` (default: its first ones)."""
    actions: Literal["derived", "delta", "target"] = "derived"
    """Actions to train on: derived (differences of states), delta (column `action`: differences),
    or target (column `action`: commanded states, in the convention of `state`)."""
    action: str = ""
    """Columns of the action without the gripper, for actions=delta and actions=target."""
    action_gripper: str = ""
    """Column of the commanded opening, in the units of `gripper` (default: the next state's)."""
    action_frame: Literal["base", "camera", "tool"] = "base"
    """Frame of actions=delta: the base, the camera at camera_pose, or the moving hand."""
    action_scale: tuple[float, ...] = field(default=(1.0, 1.0), metadata=between(-1e6, 1e6))
    """Metres and radians per unit of actions=delta; replaces position_unit and angle_unit there."""
    left: str = ""
    """Column of the left exterior camera, or of the only one."""
    right: str = ""
    """Column of the right exterior camera."""
    wrist: str = ""
    """Column of the wrist camera."""

    def __post_init__(self) -> None:
        """Reject options that are incomplete or have no effect.

        Raises:
            ConfigError: An option is invalid, missing, or would be ignored.
        """
        super().__post_init__()
        for name in ("state", "action", "gripper", "action_gripper"):
            if getattr(self, name):
                parse_columns(name, getattr(self, name))
        self._check_needed()
        self._check_unused()

    @property
    def is_droid(self) -> bool:
        """Return whether the map is empty, so that columns have DROID's names."""
        return not self.changed()

    @property
    def cameras(self) -> dict[str, str]:
        """Return camera name -> column."""
        found = {"left": self.left, "right": self.right, "wrist": self.wrist}
        return {name: column for name, column in found.items() if column}

    @property
    def columns(self) -> list[str]:
        """Return the names of the columns of numbers."""
        texts = [self.state, self.action, self.action_gripper]
        texts += [self.gripper] if self.gripper != NO_GRIPPER else []
        parts = [part for text in texts if text for part in parse_columns("", text)]
        return list(dict.fromkeys(part.name for part in parts))

    def changed(self) -> dict[str, object]:
        """Return the options that differ from their defaults."""
        found = {f.name: (getattr(self, f.name), f.default) for f in fields(ColumnMap)}
        return {name: value for name, (value, default) in found.items() if value != default}

    def words(self) -> str:
        """Return the options that differ from their defaults, as on a command line."""
        return " ".join(f"{name}={_word(value)}" for name, value in self.changed().items())

    def _check_needed(self) -> None:
        needs: list[tuple[bool, str, str]] = [
            (self.gripper_open == self.gripper_closed, "gripper_open", "unlike gripper_closed"),
            (len(self.action_scale) != 2, "action_scale", "[metres, radians]"),
            (len(self.camera_pose) not in (0, 6), "camera_pose", "six numbers"),
            (self.in_camera and not self.camera_pose, "camera_pose", "six numbers"),
            (self.state_kind == "joints" and not self.robot_file, "robot_file", "a URDF or MJCF"),
            (self.actions != "derived" and not self.action, "action", "columns"),
        ]
        if not self.is_droid:
            needs.append((not self.state, "state", "columns"))
            needs.append((not self.gripper, "gripper", f"a column, or {NO_GRIPPER}"))
            needs.append((not self.cameras, "left", "the column of a camera"))
        for missing, name, what in needs:
            if missing:
                raise ConfigError(
                    f"The map of columns has {name}={_word(getattr(self, name))}; needed with "
                    f"{self.words() or 'it'}: {name}= with {what}"
                )

    def _check_unused(self) -> None:
        joints, derived = self.state_kind == "joints", self.actions == "derived"
        scaled = self.actions == "delta"
        unused: dict[str, bool] = {
            "robot_file": not joints,
            "robot_body": not joints,
            "robot_joints": not joints,
            "position_unit": joints,
            "rotation": joints and not scaled,
            "frame": joints,
            "point": joints,
            "camera_pose": not self.in_camera,
            "action": derived,
            "action_gripper": derived,
            "action_frame": not scaled,
            "action_scale": not scaled,
            "gripper_open": self.gripper == NO_GRIPPER,
            "gripper_closed": self.gripper == NO_GRIPPER,
        }
        ignored = sorted(name for name in self.changed() if unused.get(name))
        if ignored:
            raise ConfigError(
                f"{ignored[0]}={_word(getattr(self, ignored[0]))} has no effect with "
                f"state_kind={self.state_kind} actions={self.actions}: leave it out"
            )

    @property
    def in_camera(self) -> bool:
        """Return whether poses or actions are given in a camera's frame."""
        return "camera" in (self.frame, self.action_frame)


def _word(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_word, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_map(values: object) -> ColumnMap:
    """Return the map that an index's summary holds; an index without one has DROID's names.

    Raises:
        ConfigError: The values are not a map.
    """
    if values is None:
        return ColumnMap()
    names = {f.name for f in fields(ColumnMap)}
    if not isinstance(values, Mapping) or not set(values) <= names:
        raise ConfigError("The map of columns is not that of an index: index the data again")
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return ColumnMap(**given)


assert set(get_args(Rotation)) == set(ROTATION_WIDTH)
