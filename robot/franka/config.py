"""Franka driver options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from robot.constants import MIN_HELD_M
from robot.errors import ConfigError
from robot.grippers.gripper import Gripper
from robot.ranges import between, check_ranges
from robot.safety.shared_state import Clock


@dataclass(frozen=True, kw_only=True)
class FrankaConfig:
    """Options of the Franka driver.

    Raises:
        ConfigError: A value is out of its range.
    """

    address: str = "172.16.0.2"
    """Host name or IP address of the arm's control box."""
    realtime: bool = True
    """Whether libfranka requires a real-time kernel; disable it for simulation only."""
    connect_timeout_s: float = field(default=5.0, metadata=between(0.1, 86400, "s"))
    """Connection timeout [s]."""
    dynamics: float = field(default=0.2, metadata=between(0.01, 1))
    """Fraction of the arm's maximum speed, acceleration and jerk that motions use (0..1)."""
    max_speed_m_s: float = field(default=0.1, metadata=between(0.001, 1, "m/s"))
    """Maximum speed of the end effector [m/s]."""
    max_turn_rad_s: float = field(default=0.5, metadata=between(0.001, 2, "rad/s"))
    """Maximum rotational speed of the end effector [rad/s]."""
    gripper_force_n: float = field(default=20.0, metadata=between(0.01, 30, "N"))
    """Grasping force [N]."""
    make_gripper: Callable[[], Gripper] | None = None
    """Connects to a gripper in place of the Franka hand, in the driver process; None for the
    hand."""
    gripper_speed_m_s: float = field(default=0.1, metadata=between(0.001, 0.2, "m/s"))
    """Speed of the fingers [m/s]."""
    max_torque_nm: float = field(default=20.0, metadata=between(0.1, 100, "Nm"))
    """Collision threshold of every joint [Nm]; above it the arm's own reflex stops the motion."""
    max_force_n: float = field(default=20.0, metadata=between(0.1, 100, "N"))
    """Collision threshold of the hand [N]; above it the arm's own reflex stops the motion."""
    contact_n: float = field(default=10.0, metadata=between(0, 100, "N"))
    """Force at the hand that ends a motion early [N]; 0 relies on the collision thresholds
    alone."""
    slow_below_m: float = field(default=0.04, metadata=between(-3, 3, "m"))
    """Height of the end effector in the base frame below which downward motions are slowed [m]."""
    slow_m_s: float = field(default=0.03, metadata=between(0.001, 1, "m/s"))
    """Speed of slowed downward motions [m/s]."""
    joint_rad_s: float = field(default=0.6, metadata=between(0.01, 3, "rad/s"))
    """Maximum mean joint speed of a motion [rad/s]; it slows a stretched arm down."""
    motion_timeout_s: float = field(default=5.0, metadata=between(0.1, 86400, "s"))
    """Motion timeout [s]; a motion that takes longer is stopped."""
    preempt_s: float = field(default=0.0, metadata=between(0, 10, "s"))
    """Time after which the next command preempts a motion [s]; 0 waits for each motion to end, as
    published."""
    min_held_m: float = field(default=MIN_HELD_M, metadata=between(0, 0.08, "m"))
    """Closed fingers wider than this hold an object [m]."""
    clock: Clock = "host"
    """Clock of the time limits: the host's, or that of a simulated arm, whose time waits for its
    driver, so that a busy machine makes it slow and not late."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.clock == "arm" and self.realtime:
            raise ConfigError("clock='arm'; allowed: host, or arm with realtime=False")
