"""Values in the messages of a plan server's clients: images, conventions of the arm, workspace."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from planning.apps.workspace import point
from planning.errors import PlanError
from planning.protocols import Box
from planning.remote.fields import as_image, as_number, as_numbers, as_text, as_whole, get
from planning.remote.wire import Message
from robot.arm import ArmSpec

IMAGES = ("image", "observation/image", "observation/exterior_image_1_left")
"""Names of the main camera's image, ours and openpi's."""


def first_image(message: Message) -> NDArray[np.uint8]:
    """Return the image of the main camera, under any of its names.

    Raises:
        PlanError: There is none, or it is no image.
    """
    name = next((name for name in IMAGES if name in message), IMAGES[0])
    return as_image(get(message, name), name)


def arm_of(found: object) -> ArmSpec:
    """Return the conventions of an arm; `ArmSpec` checks the ranges."""
    if not isinstance(found, Mapping):
        raise PlanError("arm must be a map of the arm's conventions")
    known = {field.name for field in dataclasses.fields(ArmSpec)}
    unknown = [str(name) for name in found if name not in known]
    if unknown:
        raise PlanError(f"arm has unknown fields: {', '.join(unknown)[:200]}")
    frame, camera = found.get("state_frame", "flange"), found.get("camera")
    if frame not in ("flange", "tcp"):
        raise PlanError(f"state_frame is {str(frame)[:60]}. Allowed: flange, tcp")
    gripper = found.get("gripper", "command")
    if gripper not in ("command", "difference", "none"):
        raise PlanError(f"gripper is {str(gripper)[:60]}. Allowed: command, difference, none")
    usual = ArmSpec()
    ranges = {"max_rotation_rad": (1e-6, np.pi), "flange_to_tcp_m": (0.0, 1.0)}
    sizes = {
        name: as_number(found.get(name, getattr(usual, name)), name, *limits)
        for name, limits in ranges.items()
    }
    return ArmSpec(
        period_s=as_number(get(dict(found), "period_s"), "period_s", 1e-3, 60),
        state_frame=frame,
        state_dim=as_whole(found.get("state_dim", 7), "state_dim", 1, 1024),
        action_dim=as_whole(found.get("action_dim", 7), "action_dim", 1, 1024),
        max_step_m=as_number(get(dict(found), "max_step_m"), "max_step_m", 1e-6, 1),
        camera=None if camera is None else as_text(camera, "camera"),
        gripper=gripper,
        **sizes,
    )


def box_of(found: object) -> Box | None:
    """Return a workspace [2, 3]: lower and upper corner."""
    if found is None:
        return None
    low_m, high_m = as_numbers(found, "box_m", 2, 3)
    if not (low_m < high_m).all():
        raise PlanError(f"box_m is {[low_m.tolist(), high_m.tolist()]}. Allowed: low below high")
    return point(low_m), point(high_m)
