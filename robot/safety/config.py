"""Workspace and step limits of a workcell."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import numpy as np

from robot.constants import MAX_ROTATION_RAD, MAX_STEP_M
from robot.errors import ConfigError

CAPS = {
    "max_step_m": 0.2,
    "max_step_rad": 0.5,
    "max_speed_m_s": 1.0,
    "max_turn_rad_s": 2.0,
    "gripper_force_n": 30.0,
    "max_torque_nm": 20.0,
    "max_force_n": 20.0,
    "max_joint_step_rad": 2.0,
    "max_state_age_s": 2.0,
    "max_tilt_rad": 3.2,
    "slow_m_s": 1.0,
}
"""Maximum value that a limit may have; all of them must be above 0."""


@dataclass(frozen=True, kw_only=True)
class SafetyConfig:
    """Workspace and step limits of a workcell, in the robot's base frame.

    Raises:
        ConfigError: A value is out of its range.
    """

    flange_low_m: tuple[float, ...] = (0.28, -0.32, 0.10)
    """Lower corner of the flange's box [3, m]."""
    flange_high_m: tuple[float, ...] = (0.70, 0.32, 0.55)
    """Upper corner of the flange's box [3, m]."""
    tip_low_m: tuple[float, ...] = (0.25, -0.38, 0.0)
    """Lower corner of the fingertips' box [3, m]."""
    tip_high_m: tuple[float, ...] = (0.75, 0.38, 0.50)
    """Upper corner of the fingertips' box [3, m]."""
    table_z_m: float = 0.0
    """Height of the table [m]."""
    clearance_m: float = 0.001
    """Minimum height of the fingertips above the table in a target [m]."""
    margin_m: float = 0.005
    """Margin between targets and the faces of both boxes, for the arm's tracking error [m]."""
    max_step_m: float = MAX_STEP_M
    """Maximum step along each axis [m]; a longer step is scaled down, keeping its direction."""
    max_step_rad: float = MAX_ROTATION_RAD
    """Maximum rotation of a step about each axis [rad]."""
    max_tilt_rad: float = 0.6
    """Maximum angle between the hand and straight down [rad]. Beyond it, the hand's body and the
    wrist could touch the table while flange and fingertips are in their boxes."""
    max_speed_m_s: float = 0.1
    """Maximum speed of the hand [m/s]; with `step_s` it also limits a step under preemption."""
    max_turn_rad_s: float = 0.5
    """Maximum rotational speed of the hand [rad/s]."""
    step_s: float | None = None
    """Control period of a driver that preempts steps [s]; None if it waits for each step to end."""
    joint_margin_rad: float = 0.1
    """Margin kept from every joint limit [rad]."""
    max_joint_step_rad: float = 0.6
    """Maximum motion of a joint per step [rad]; steps near a singularity need more and are
    refused."""
    max_state_age_s: float = 0.2
    """Maximum age of the arm's reading when a command is checked [s]."""
    gripper_force_n: float = 20.0
    """Grasping force [N]."""
    max_torque_nm: float = 20.0
    """Collision threshold of every joint [Nm]."""
    max_force_n: float = 20.0
    """Collision threshold of the hand [N]."""
    contact_n: float = 10.0
    """Contact force at which a driver ends a motion, below the collision threshold [N]; 0 for
    none."""
    slow_zone_m: float = 0.04
    """Height of the fingertips above the table below which downward motions are slowed [m]. A held
    object may touch down there, and landing at full speed triggers a collision."""
    slow_m_s: float = 0.03
    """Speed of slowed downward motions [m/s]; `max_speed_m_s` applies if it is lower."""
    max_lag_m: float = 0.012
    """Actions accumulate on the last target unless the flange is farther than this from it [m]."""
    on_violation: Literal["clip", "reject"] = "clip"
    """Handling of a command beyond the limits: clip shortens it, reject sends nothing."""

    def __post_init__(self) -> None:
        if not 0 <= self.margin_m <= 0.02:
            raise ConfigError(f"margin_m is {self.margin_m}; allowed: 0 to 0.02")
        for name in ("flange_low_m", "flange_high_m", "tip_low_m", "tip_high_m"):
            value = tuple(float(v) for v in getattr(self, name))
            if len(value) != 3 or not np.isfinite(value).all():
                raise ConfigError(f"{name} is {value}; allowed: three finite numbers [m]")
            object.__setattr__(self, name, value)
        for part in ("flange", "tip"):
            low, high = getattr(self, f"{part}_low_m"), getattr(self, f"{part}_high_m")
            if any(a + self.margin_m >= b - self.margin_m for a, b in zip(low, high, strict=True)):
                raise ConfigError(
                    f"{part} box is empty: low {low}, high {high}, margin_m {self.margin_m} [m]"
                )
        for name, cap in CAPS.items():
            if not 0 < getattr(self, name) <= cap:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}; allowed: above 0, at most {cap}"
                )
        self._check_touch()
        if self.on_violation not in ("clip", "reject"):
            raise ConfigError(f"on_violation is {self.on_violation!r}; allowed: clip, reject")

    def _check_touch(self) -> None:
        if not 0 <= self.contact_n < self.max_force_n:
            raise ConfigError(
                f"contact_n is {self.contact_n}; allowed: 0 to under max_force_n {self.max_force_n}"
            )
        if not 0 <= self.slow_zone_m <= 0.5:
            raise ConfigError(f"slow_zone_m is {self.slow_zone_m}; allowed: 0 to 0.5")

    @classmethod
    def read(cls, values: dict[str, Any]) -> Self:
        """Build the limits from a mapping, as read from a configuration file.

        Raises:
            ConfigError: An unknown name, or a value out of its range.
        """
        known = {f.name for f in fields(cls)}
        wrong = sorted(set(values) - known)
        if wrong:
            raise ConfigError(f"Unknown limits {wrong}; known: {', '.join(sorted(known))}")
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**given)

    @property
    def step_m(self) -> float:
        """Maximum step along an axis, including the speed limit under preemption [m]."""
        if self.step_s is None:
            return self.max_step_m
        return min(self.max_step_m, self.max_speed_m_s * self.step_s)
