"""Turn the columns of a data set with names of its own into states and commanded states.

Shapes: T control steps, W values of a column, S state (7), J joints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import radians

import numpy as np
import torch

from worldmodel.actions import convert_state
from worldmodel.data.arm_model import open_arm
from worldmodel.data.column_map import NO_GRIPPER, ROTATION_WIDTH, UNITS_M, ColumnMap, parse_columns
from worldmodel.data.episode import Array, EpisodeError, check_states
from worldmodel.data.rotations import from_euler, read_rotations, to_euler

ReadColumn = Callable[[str], Array]
"""Returns the values [T, W] of a column."""


@dataclass(frozen=True, kw_only=True)
class MappedStates:
    """What an episode's columns say about the robot."""

    states_TS: Array
    """States, see `worldmodel.data.episode.Episode`."""
    targets_TS: Array | None
    """Commanded state of each step; None if actions are differences of states."""
    joints_TJ: Array | None
    """Joint positions [rad], if the state is one."""


@dataclass(frozen=True)
class _Poses:
    positions_T3: Array
    matrices_T33: Array


def read_states(read: ReadColumn, columns: ColumnMap) -> MappedStates:
    """Return the states, commanded states and joints of an episode.

    Args:
        read: Reads a column of the episode.
        columns: Map of the columns, which is not empty.

    Raises:
        EpisodeError: A column is missing, has another width, or holds implausible values.
        ConfigError: The robot's file cannot be used.
    """
    values_TW = _take(read, "state", columns.state)
    if len(values_TW) < 2:
        raise EpisodeError("zero_length", f"{len(values_TW)} control steps; at least 2 are needed")
    poses = _poses(values_TW, columns, "state")
    closed_T = _closedness(read, columns, columns.gripper, len(values_TW))
    states_TS = _states(poses, closed_T, columns)
    check_states(states_TS)
    joints = values_TW * _angle(columns) if columns.state_kind == "joints" else None
    return MappedStates(
        states_TS=states_TS, targets_TS=_targets(read, columns, poses, closed_T), joints_TJ=joints
    )


def _take(read: ReadColumn, option: str, text: str) -> Array:
    """Return the values [T, W] of columns, element or slice."""
    found = []
    for part in parse_columns(option, text):
        values_TW = read(part.name)
        found.append(values_TW[:, part.first : part.last])
        if not found[-1].shape[1]:
            raise EpisodeError(
                "column_width",
                f"{option}={text} selects nothing: {part.name} has {values_TW.shape[1]} values",
            )
    lengths = {len(values) for values in found}
    if len(lengths) > 1:
        raise EpisodeError("lengths_differ", f"{option}={text}: columns of {sorted(lengths)} rows")
    return np.concatenate(found, axis=1)


def _angle(columns: ColumnMap) -> float:
    return radians(1.0) if columns.angle_unit == "deg" else 1.0


def _poses(values_TW: Array, columns: ColumnMap, option: str) -> _Poses:
    """Return the poses of the point that the columns hold, in the base frame."""
    if columns.state_kind == "joints":
        arm = open_arm(columns.robot_file, columns.robot_body, columns.robot_joints)
        return _Poses(*arm.poses(values_TW * _angle(columns)))
    _require_width(values_TW, columns, option)
    positions_T3 = values_TW[:, :3] * UNITS_M[columns.position_unit]
    matrices_T33 = read_rotations(values_TW[:, 3:], columns.rotation, unit_rad=_angle(columns))
    if columns.frame == "camera":
        camera_33 = _camera_matrix(columns)
        positions_T3 = positions_T3 @ camera_33.T + np.array(columns.camera_pose[:3])
        if columns.rotation != "none":
            matrices_T33 = camera_33 @ matrices_T33
    return _Poses(positions_T3, matrices_T33)


def _require_width(values_TW: Array, columns: ColumnMap, option: str) -> None:
    width = 3 + ROTATION_WIDTH[columns.rotation]
    if values_TW.shape[1] != width:
        raise EpisodeError(
            "column_width",
            f"{option}={getattr(columns, option)} has {values_TW.shape[1]} values; a position and "
            f"rotation={columns.rotation} have {width}. Select them, as in COLUMN[0:{width}]",
        )


def _camera_matrix(columns: ColumnMap) -> Array:
    return from_euler(np.array([columns.camera_pose[3:]]))[0]


def _closedness(read: ReadColumn, columns: ColumnMap, text: str, steps: int) -> Array:
    if columns.gripper == NO_GRIPPER:
        return np.zeros(steps)
    values_TW = _take(read, "gripper", text)
    if len(values_TW) != steps:
        raise EpisodeError("lengths_differ", f"{text} has {len(values_TW)} of {steps} rows")
    opened, closed = columns.gripper_open, columns.gripper_closed
    return np.asarray((values_TW.mean(axis=1) - opened) / (closed - opened))


def _states(poses: _Poses, closed_T: Array, columns: ColumnMap) -> Array:
    angles_T3 = to_euler(poses.matrices_T33)
    states_TS = np.concatenate([poses.positions_T3, angles_T3, closed_T[:, None]], axis=1)
    if columns.point == "tcp":
        states_TS = convert_state(torch.from_numpy(states_TS), "tcp", "flange").numpy()
    return states_TS


def _targets(read: ReadColumn, columns: ColumnMap, poses: _Poses, closed_T: Array) -> Array | None:
    if columns.actions == "derived":
        return None
    values_TW = _take(read, "action", columns.action)
    steps = len(closed_T)
    if len(values_TW) != steps:
        raise EpisodeError(
            "lengths_differ", f"action={columns.action} has {len(values_TW)} of {steps} rows"
        )
    closed = np.append(closed_T[1:], closed_T[-1:])  # commanded: what the next state reaches
    if columns.action_gripper:
        closed = _closedness(read, columns, columns.action_gripper, steps)
    if columns.actions == "target":
        commanded = _poses(values_TW, columns, "action")
    else:
        commanded = _moved(poses, values_TW, columns)
    targets_TS = _states(commanded, closed, columns)
    try:
        check_states(targets_TS)
    except EpisodeError as error:
        raise EpisodeError(error.reason, f"the action's columns: {error}") from error
    return targets_TS


def _moved(poses: _Poses, values_TW: Array, columns: ColumnMap) -> _Poses:
    """Return the poses after the recorded differences."""
    _require_width(values_TW, columns, "action")
    metres, angle = columns.action_scale
    moves_T3 = values_TW[:, :3] * metres
    if columns.rotation == "none":
        turns_T33 = np.tile(np.eye(3), (len(moves_T3), 1, 1))
    else:
        turns_T33 = read_rotations(values_TW[:, 3:], columns.rotation, unit_rad=angle)
    positions_T3, matrices_T33 = poses.positions_T3, poses.matrices_T33
    if columns.action_frame == "tool":
        moved_T3 = np.einsum("tij,tj->ti", matrices_T33, moves_T3)
        return _Poses(positions_T3 + moved_T3, matrices_T33 @ turns_T33)
    if columns.action_frame == "camera":
        camera_33 = _camera_matrix(columns)
        moves_T3, turns_T33 = moves_T3 @ camera_33.T, camera_33 @ turns_T33 @ camera_33.T
    return _Poses(positions_T3 + moves_T3, turns_T33 @ matrices_T33)
