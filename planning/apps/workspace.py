"""Workspaces of planned positions."""

from __future__ import annotations

from collections.abc import Iterable

from envs.mujoco_arm import BOX_HIGH_M, BOX_LOW_M
from planning.protocols import Box, Point


def point(values: Iterable[float]) -> Point:
    """Return x, y and z as a tuple."""
    x, y, z = (float(value) for value in values)
    return x, y, z


SIMULATED_BOX_M: Box = (point(BOX_LOW_M), point(BOX_HIGH_M))
"""Workspace of planned flange positions in the simulated workcell [m]."""
