"""Franka driver options, and the messages between driver and planner process."""

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
    """Options of the Franka driver.

    Raises:
        ConfigError: `dynamics` is out of its range.
    """

    address: str = "172.16.0.2"
    """Host name or IP address of the arm's control box."""
    realtime: bool = True
    """Whether libfranka requires a real-time kernel; disable it for simulation only."""
    connect_timeout_s: float = 5.0
    """Connection timeout [s]."""
    dynamics: float = 0.2
    """Fraction of the arm's maximum speed, acceleration and jerk that motions use (0..1)."""
    max_speed_m_s: float = 0.1
    """Maximum speed of the end effector [m/s]."""
    gripper_force_n: float = 20.0
    """Grasping force [N]."""
    gripper_speed_m_s: float = 0.1
    """Speed of the fingers [m/s]."""
    max_torque_nm: float = 20.0
    """Collision threshold of every joint [Nm]; above it the arm's own reflex stops the motion."""
    max_force_n: float = 20.0
    """Collision threshold of the hand [N]; above it the arm's own reflex stops the motion."""
    contact_n: float = 10.0
    """Force at the hand that ends a motion early [N]; 0 relies on the collision thresholds
    alone."""
    slow_below_m: float = 0.04
    """Height of the end effector in the base frame below which downward motions are slowed [m]."""
    slow_m_s: float = 0.03
    """Speed of slowed downward motions [m/s]."""
    joint_rad_s: float = 0.6
    """Maximum mean joint speed of a motion [rad/s]; it slows a stretched arm down."""
    motion_timeout_s: float = 5.0
    """Motion timeout [s]; a motion that takes longer is stopped."""
    preempt_s: float = 0.0
    """Time after which the next command preempts a motion [s]; 0 waits for each motion to end, as
    published."""
    min_held_m: float = MIN_HELD_M
    """Closed fingers wider than this hold an object [m]."""

    def __post_init__(self) -> None:
        if not 0 < self.dynamics <= 1:
            raise ConfigError(f"dynamics is {self.dynamics}; allowed: above 0, at most 1")


@dataclass(frozen=True)
class Order:
    """A command to the driver process."""

    kind: Literal["go", "recover", "connect", "disconnect", "end"]
    target: Array | None = None
    """`go`: flange pose and closedness [7]."""
    joints: Array | None = None
    """`go`: joint positions [7, rad] that reach the pose."""


@dataclass(frozen=True)
class Answer:
    """A reply from the driver process."""

    kind: Literal["started", "ready", "done", "stopped", "failed"]
    text: str = ""
    """`stopped` and `failed`: reason."""
    reasons: tuple[Reason, ...] = ()
    """`done`: deviation from the command; None if there is none."""
    ended: Array | None = None
    """`done`: commanded pose [7] at which contact ended the motion."""
