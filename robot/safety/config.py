"""Workspace and step limits of a workcell."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal, Self

import numpy as np

from robot.constants import MAX_ROTATION_RAD, MAX_STEP_M
from robot.errors import ConfigError
from robot.ranges import between, check_ranges, shown

BOX = between(-3, 3, "m")


@dataclass(frozen=True, kw_only=True)
class SafetyConfig:
    """Workspace and step limits of a workcell, in the robot's base frame.

    Raises:
        ConfigError: A value is out of its range.
    """

    flange_low_m: tuple[float, float, float] = field(default=(0.28, -0.32, 0.10), metadata=BOX)
    """Lower corner of the flange's box [3, m]."""
    flange_high_m: tuple[float, float, float] = field(default=(0.70, 0.32, 0.55), metadata=BOX)
    """Upper corner of the flange's box [3, m]."""
    tip_low_m: tuple[float, float, float] = field(default=(0.25, -0.38, 0.0), metadata=BOX)
    """Lower corner of the fingertips' box [3, m]."""
    tip_high_m: tuple[float, float, float] = field(default=(0.75, 0.38, 0.50), metadata=BOX)
    """Upper corner of the fingertips' box [3, m]."""
    table_z_m: float = field(default=0.0, metadata=between(-2, 2, "m"))
    """Height of the table [m]."""
    clearance_m: float = field(default=0.001, metadata=between(0, 0.5, "m"))
    """Minimum height of the fingertips above the table in a target [m]."""
    margin_m: float = field(default=0.005, metadata=between(0, 0.02, "m"))
    """Margin between targets and the faces of both boxes, for the arm's tracking error [m]."""
    max_step_m: float = field(default=MAX_STEP_M, metadata=between(0.0001, 0.2, "m"))
    """Maximum step along each axis [m]; a longer step is scaled down, keeping its direction."""
    max_step_rad: float = field(default=MAX_ROTATION_RAD, metadata=between(0.0001, 0.5, "rad"))
    """Maximum angle of a step's rotation [rad]; a larger one is scaled down about the same axis."""
    max_tilt_rad: float = field(default=0.6, metadata=between(0.001, 3.2, "rad"))
    """Maximum angle between the hand and straight down [rad]. Beyond it, the hand's body and the
    wrist could touch the table while flange and fingertips are in their boxes."""
    max_speed_m_s: float = field(default=0.1, metadata=between(0.001, 1, "m/s"))
    """Maximum speed of the hand [m/s]; with `step_s` it also limits a step under preemption."""
    max_turn_rad_s: float = field(default=0.5, metadata=between(0.001, 2, "rad/s"))
    """Maximum rotational speed of the hand [rad/s]; with `step_s` it also limits a step under
    preemption."""
    step_s: float | None = field(default=None, metadata=between(0.001, 10, "s"))
    """Control period of a driver that preempts steps [s]; None if it waits for each step to end."""
    joint_margin_rad: float = field(default=0.1, metadata=between(0, 1, "rad"))
    """Margin kept from every joint limit [rad]."""
    max_joint_step_rad: float = field(default=0.6, metadata=between(0.001, 2, "rad"))
    """Maximum motion of a joint per step [rad]; steps near a singularity need more and are
    refused."""
    max_state_age_s: float = field(default=0.2, metadata=between(0.001, 2, "s"))
    """Maximum age of the arm's reading when a command is checked [s]."""
    gripper_force_n: float = field(default=20.0, metadata=between(0.01, 30, "N"))
    """Grasping force [N]."""
    max_torque_nm: float = field(default=20.0, metadata=between(0.1, 20, "Nm"))
    """Collision threshold of every joint [Nm]."""
    max_force_n: float = field(default=20.0, metadata=between(0.1, 20, "N"))
    """Collision threshold of the hand [N]."""
    contact_n: float = field(default=10.0, metadata=between(0, 20, "N"))
    """Contact force at which a driver ends a motion, below the collision threshold [N]; 0 for
    none."""
    slow_zone_m: float = field(default=0.04, metadata=between(0, 0.5, "m"))
    """Height of the fingertips above the table below which downward motions are slowed [m]. A held
    object may touch down there, and landing at full speed triggers a collision."""
    slow_m_s: float = field(default=0.03, metadata=between(0.001, 1, "m/s"))
    """Speed of slowed downward motions [m/s]; `max_speed_m_s` applies if it is lower."""
    max_lag_m: float = field(default=0.012, metadata=between(0, 0.2, "m"))
    """Actions accumulate on the last target unless the flange is farther than this from it [m]."""
    max_lag_rad: float = field(default=0.05, metadata=between(0, 0.5, "rad"))
    """The orientation that a step counts from is at most this far from the measured one [rad]."""
    on_violation: Literal["clip", "reject"] = "clip"
    """Handling of a command beyond the limits: clip shortens it, reject sends nothing."""

    def __post_init__(self) -> None:
        for name in ("flange_low_m", "flange_high_m", "tip_low_m", "tip_high_m"):
            if isinstance(getattr(self, name), list):  # as YAML and JSON have it
                object.__setattr__(self, name, tuple(getattr(self, name)))
        check_ranges(self)
        floor = max(self.tip_low_m[2] + self.margin_m, self.table_z_m + self.clearance_m)
        tip_low = (*self.tip_low_m[:2], floor - self.margin_m)
        for part, low, high in (
            ("flange", self.flange_low_m, self.flange_high_m),
            ("tip", tip_low, self.tip_high_m),
        ):
            if not all(
                a + self.margin_m < b - self.margin_m for a, b in zip(low, high, strict=True)
            ):
                raise ConfigError(
                    f"{part} box is empty: low {low}, high {high}, margin_m {self.margin_m}, "
                    f"table_z_m {self.table_z_m}, clearance_m {self.clearance_m} [m]"
                )
        if not self.contact_n < self.max_force_n:
            raise ConfigError(
                f"contact_n={self.contact_n}; allowed: less than max_force_n={self.max_force_n} N"
            )

    @classmethod
    def read(cls, values: object) -> Self:
        """Build the limits from a mapping, as read from a configuration file.

        Raises:
            ConfigError: No or an empty mapping, an unknown name, or a value out of its range.
        """
        if not isinstance(values, dict) or not values:
            raise ConfigError(f"Limits {shown(values)}; allowed: one `name: value` per line")
        known = {f.name for f in fields(cls)}
        wrong = sorted(str(name) for name in values if name not in known)
        if wrong:
            raise ConfigError(f"Unknown limits {shown(wrong)}; known: {', '.join(sorted(known))}")
        return cls(**values)

    @property
    def step_m(self) -> float:
        """Maximum step along an axis, including the speed limit under preemption [m]."""
        if self.step_s is None:
            return self.max_step_m
        return float(np.minimum(self.max_step_m, self.max_speed_m_s * self.step_s))

    @property
    def step_rad(self) -> float:
        """Maximum angle of a step's rotation, including the speed limit under preemption [rad]."""
        if self.step_s is None:
            return self.max_step_rad
        return float(np.minimum(self.max_step_rad, self.max_turn_rad_s * self.step_s))
