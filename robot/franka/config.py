"""Options of the Franka driver, and the messages between it and the planner's process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robot.arm import Reason
from robot.constants import MIN_HELD_M
from robot.errors import ConfigError

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FrankaConfig:
    """How to drive a Franka.

    Raises:
        ConfigError: `dynamics` is out of its range.
    """

    address: str = "172.16.0.2"
    """Host name or IP address of the arm's control box."""
    realtime: bool = True
    """Whether libfranka requires a real-time kernel; False is for simulation only."""
    connect_timeout_s: float = 5.0
    """Longest time for a connection [s]."""
    dynamics: float = 0.2
    """Share of the arm's largest speed, acceleration and jerk that motions use (0..1)."""
    max_speed_m_s: float = 0.1
    """Largest speed of the end effector [m/s]."""
    gripper_force_n: float = 20.0
    """Grasping force [N]."""
    gripper_speed_m_s: float = 0.1
    """Speed of the fingers [m/s]."""
    max_torque_nm: float = 20.0
    """Collision threshold of every joint [Nm]; beyond it the arm's own reflex stops it."""
    max_force_n: float = 20.0
    """Collision threshold of the hand [N]; beyond it the arm's own reflex stops it."""
    contact_n: float = 10.0
    """Force at the hand that ends a motion where it is [N]; 0 leaves contacts to the thresholds."""
    slow_below_m: float = 0.04
    """Height of the end effector in the base frame below which downward motions are slow [m]."""
    slow_m_s: float = 0.03
    """Speed of those slow motions [m/s]."""
    joint_rad_s: float = 0.6
    """Largest mean speed of any joint in a motion [rad/s]; a stretched arm moves slower for it."""
    motion_timeout_s: float = 5.0
    """Longest time for a motion [s]; one that takes longer is stopped."""
    preempt_s: float = 0.0
    """Time after which the next command replaces a motion [s]; 0 waits for each to end, as
    published."""
    min_held_m: float = MIN_HELD_M
    """Closed fingers that are further apart than this hold an object [m]."""

    def __post_init__(self) -> None:
        if not 0 < self.dynamics <= 1:
            raise ConfigError(f"dynamics is {self.dynamics}; allowed: above 0, at most 1")


@dataclass(frozen=True)
class Order:
    """A message to the driver's process."""

    kind: Literal["go", "recover", "connect", "disconnect", "end"]
    target: Array | None = None
    """`go`: flange pose and closedness [7]."""
    joints: Array | None = None
    """`go`: joint positions [7, rad] of that pose."""


@dataclass(frozen=True)
class Answer:
    """A message from the driver's process."""

    kind: Literal["started", "ready", "done", "stopped", "failed"]
    text: str = ""
    """`stopped` and `failed`: why."""
    reasons: tuple[Reason, ...] = ()
    """`done`: what differs from the order."""
    ended: Array | None = None
    """`done`: commanded pose [7] at which contact ended the motion."""
