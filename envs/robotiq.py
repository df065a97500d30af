"""The Robotiq 2F-85 in place of the Franka hand: a gripper whose fingers are four-bar linkages."""

from __future__ import annotations

import importlib.resources
import zipfile
from typing import Any

import mujoco

from envs.embodiment import ROBOTIQ
from envs.objects import GRIP_SOLIMP, TIMESTEP_S

FLANGE_POS, FLANGE_QUAT = [0, 0, 0.107], [0.9238795, 0, 0, -0.3826834]
"""Frame of a gripper on the last link: at the flange, with the fingers opening along its y axis."""
ALONG_Y = [0.7071068, 0, 0, 0.7071068]
"""Rotation of the gripper in that frame: its own fingers open along x."""
MOUNT_KG = 0.2
"""Mass of the coupling between flange and gripper, which the model derives from its meshes [kg]."""
PAD_FRICTION, PAD_SOLREF = [0.7, 0.05, 0.001], [4 * TIMESTEP_S, 1.0]
"""Contact of the pads, which takes precedence over the objects'. A shorter time constant or more
friction throws a cube that is pushed, or jams it."""
METAL, RUBBER = (0.30, 0.31, 0.33, 1.0), (0.12, 0.12, 0.13, 1.0)
"""Colours of the collision meshes and of the pads."""
NO_CONTACT = ("coupler", "spring_link", "driver")
"""Links behind the fingers, whose contacts cost time and hold nothing."""


def read_spec(archive: str, model: str) -> Any:
    """Parse a model of `envs/assets`, with its meshes read from the archive.

    Args:
        archive: Name of the zip file.
        model: Name of the XML file in it.
    """
    file = importlib.resources.files("envs") / "assets" / archive
    with file.open("rb") as opened, zipfile.ZipFile(opened) as parts:
        assets = {name: parts.read(name) for name in parts.namelist()}
    spec = mujoco.MjSpec.from_string(assets.pop(model).decode())
    spec.meshdir = ""
    spec.assets = assets
    return spec


def add_robotiq(spec: Any) -> None:
    """Replace the hand of the arm's model by the gripper, in a body named `hand`."""
    own = [a for a in spec.actuators if a.name == "hand"]
    for part in [*spec.keys, *own, *spec.tendons, *spec.equalities, spec.body("hand")]:
        spec.delete(part)
    gripper = read_spec("robotiq_2f85.zip", "2f85.xml")
    gripper.option.cone, gripper.option.impratio = spec.option.cone, spec.option.impratio
    _tune(gripper)
    hand = spec.body("fr3_link7").add_body(name="hand", pos=FLANGE_POS, quat=FLANGE_QUAT)
    spec.attach(gripper, frame=hand.add_frame(quat=ALONG_Y), prefix=ROBOTIQ)


def _tune(gripper: Any) -> None:
    """Compensate gravity, and give pads and collision meshes the contacts and colours of ours."""
    for body in gripper.bodies:
        if body.name != "world":
            body.gravcomp = 1.0
    for geom in gripper.geoms:
        if int(geom.group) == 2:
            geom.mass = 0.0  # the same inertia with and without the detailed meshes
        elif "pad" in geom.name:
            geom.rgba = RUBBER
            geom.friction, geom.condim = PAD_FRICTION, 4
            geom.solref, geom.solimp = PAD_SOLREF, GRIP_SOLIMP
        else:
            geom.rgba = METAL
            if geom.parent.name == "base_mount":
                geom.mass = MOUNT_KG
            if any(name in geom.parent.name for name in NO_CONTACT):
                geom.contype = geom.conaffinity = 0
