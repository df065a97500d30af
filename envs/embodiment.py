"""Embodiments: what is on the arm's flange, and which cameras look at it."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.errors import TaskError
from robot.constants import FLANGE_TO_TCP_M, MAX_WIDTH_M

Array = NDArray[np.float64]

HAND_OPEN = 255.0
"""Actuator command of the open Franka hand; 0 closes it."""
ROBOTIQ = "robotiq_"
"""Prefix of the names of the Robotiq 2F-85's parts."""
FINGERS = (f"{ROBOTIQ}left_pad1", f"{ROBOTIQ}right_pad1")
"""Boxes of the Robotiq's upper pads, whose inner faces hold an object."""
PAD_M = 0.004
"""Half the thickness of a pad [m]."""


@dataclass(frozen=True, kw_only=True)
class ExteriorCamera:
    """A camera beside the table."""

    name: str
    place_m: tuple[float, float, float]
    """Position in the base frame [m]."""
    target_m: tuple[float, float, float]
    """Point on its axis, about which `envs.appearance` turns it [m]."""
    fovy_deg: float
    """Vertical field of view [deg]."""


@dataclass(frozen=True, kw_only=True)
class WristCamera:
    """A camera on the flange; its frame is that of the gripper, whose fingers open along y."""

    place_m: tuple[float, float, float]
    """Position from the flange [m]."""
    target_m: tuple[float, float, float]
    """Point on its axis, from the flange [m]."""
    fovy_deg: float
    """Vertical field of view [deg]."""


@dataclass(frozen=True, kw_only=True)
class Embodiment:
    """A gripper and its cameras. The arm is always a Franka FR3."""

    name: str
    flange_to_tcp_m: float
    """Distance from the flange to the point between the fingertips [m]."""
    open_width_m: float
    """Distance between the open fingers [m]."""
    open_q: tuple[float, ...]
    """Positions of the gripper's joints when it is open [m or rad]."""
    open_command: float
    """Command of the gripper's actuator that opens it."""
    closed_command: float
    """Command that closes it."""
    push_step_m: float
    """Maximum step per axis of the expert's pushes, so that a cube is pushed and not thrown [m]."""
    cameras: tuple[ExteriorCamera, ...]
    """Exterior cameras, left and right."""
    wrist: WristCamera | None = None
    """Wrist camera; None for the one in the scene's own hand."""
    aspect: float = 1.0
    """Width of the images divided by their height."""

    @property
    def left_m(self) -> Array:
        """Position of the left camera [3, m]."""
        return np.array(self.cameras[0].place_m)

    def width_px(self, image_size: int) -> int:
        """Return the width of images of height `image_size`, even for H.264 [px]."""
        return image_size if self.aspect == 1.0 else 2 * round(self.aspect * image_size / 2)

    @property
    def flange_low_m(self) -> Array:
        """Lower corner of the flange's workspace [3, m].

        The closed fingers end 9.5 mm (Franka) or 7.6 mm (Robotiq) below the point between their
        pads: below this floor they would press on the table, and friction would jam them.
        """
        return np.array([0.30, -0.30, self.flange_to_tcp_m + 0.012])

    @property
    def flange_high_m(self) -> Array:
        """Upper corner of the flange's workspace [3, m]."""
        return np.array([0.68, 0.30, 0.50 + self.flange_to_tcp_m - FLANGE_TO_TCP_M])

    def width_m(self, model: mujoco.MjModel, data: mujoco.MjData) -> float:
        """Return the distance between the fingers [m]."""
        if self.wrist is None:
            return float(data.qpos[7:9].sum())
        left, right = (data.geom_xpos[model.geom(name).id] for name in FINGERS)
        return max(0.0, float(np.linalg.norm(left - right)) - 2 * PAD_M)


TABLE_MIDDLE_M = (0.5, 0.0, 0.1)
FRANKA = Embodiment(
    name="franka",
    flange_to_tcp_m=FLANGE_TO_TCP_M,
    open_width_m=MAX_WIDTH_M,
    open_q=(MAX_WIDTH_M / 2, MAX_WIDTH_M / 2),
    open_command=HAND_OPEN,
    closed_command=0.0,
    push_step_m=0.07,
    cameras=(
        ExteriorCamera(
            name="left", place_m=(1.18, 0.62, 0.62), target_m=TABLE_MIDDLE_M, fovy_deg=46.0
        ),
        ExteriorCamera(
            name="right", place_m=(1.18, -0.62, 0.62), target_m=TABLE_MIDDLE_M, fovy_deg=46.0
        ),
    ),
)
"""The Franka hand, with cameras that face the arm."""
DROID = Embodiment(
    name="droid",
    flange_to_tcp_m=0.166,
    open_width_m=0.085,
    open_q=(0.0,) * 8,
    open_command=0.0,
    closed_command=255.0,
    push_step_m=0.035,
    cameras=(
        ExteriorCamera(
            name="left", place_m=(0.05, 0.57, 0.66), target_m=(0.62, 0.14, 0.1), fovy_deg=71.5
        ),
        ExteriorCamera(
            name="right", place_m=(0.05, -0.57, 0.66), target_m=(0.62, -0.14, 0.1), fovy_deg=71.5
        ),
    ),
    wrist=WristCamera(place_m=(0.085, 0.0, 0.02), target_m=(0.03, 0.0, 0.20), fovy_deg=56.7),
    aspect=16 / 9,
)
"""The robot of the DROID data set: a Robotiq 2F-85, two ZED 2 beside the arm's base, and a ZED Mini
on the wrist, all with images of 16:9.

The fields of view are those of lenses of 2.1 mm and 2.8 mm on a sensor of 5.376 mm x 3.024 mm. The
places of the exterior cameras are those that simulations of DROID use; in the data set each
laboratory and scene has its own. Source: DROID (arXiv 2403.12945), sec. III.
"""
EMBODIMENTS = {one.name: one for one in (FRANKA, DROID)}


def get_embodiment(name: str) -> Embodiment:
    """Look up an embodiment.

    Raises:
        TaskError: Unknown name; the message lists the known ones.
    """
    if name not in EMBODIMENTS:
        raise TaskError(f"Unknown embodiment {name!r}; known: {', '.join(EMBODIMENTS)}")
    return EMBODIMENTS[name]
