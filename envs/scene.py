"""Build the scene with MjSpec: a table, the arm, one or several objects, and a wall."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.embodiment import FRANKA, Embodiment
from envs.errors import TaskError
from envs.objects import BODY_NAMES, GRIP_SOLIMP, GRIP_SOLREF, TIMESTEP_S, add_object, add_wall
from envs.robotiq import add_robotiq, read_spec

Array = NDArray[np.float64]

FAST_COLOURS = {"link": (0.86, 0.87, 0.88, 1.0), "hand": (0.75, 0.76, 0.78, 1.0)}
BASE = "fr3_link0"
"""The arm's first link, which does not move."""
EXTENT_M, CENTER_M = 2.2869633632413278, (0.42513331, 0.0, 0.04348168)
"""Size and centre of the scene with one cube and all meshes. Rendering depends on them, and the
same numbers for all scenes make their images comparable."""
VISUAL_GROUP = 2
"""Group of the arm's detailed meshes."""
FLANGE_POS = [0, 0, 0.107]
"""Position of the flange on the last link [m]."""
PAD_COLOUR = (0.15, 0.15, 0.17, 1.0)
SMALL_PAD_M = 0.005
"""Pads with a smaller half width are replaced by one flat pad."""
_BOX = mujoco.mjtGeom.mjGEOM_BOX


def _tune_arm(spec: Any) -> None:
    for body in spec.bodies:
        if body.name != "world":
            body.gravcomp = 1.0
    for actuator in spec.actuators:
        if actuator.name == "hand":
            actuator.gainprm[0] = 1200 * 0.04 / 255
            actuator.biasprm[1:3] = [-1200.0, -40.0]
        else:
            gain = 2.5 * actuator.gainprm[0]
            actuator.gainprm[0], actuator.biasprm[1] = gain, -gain
            actuator.biasprm[2] = -3.2 * np.sqrt(gain)
    for geom in spec.geoms:
        if int(geom.group) == 3:
            parent = geom.parent.name
            geom.rgba = FAST_COLOURS["hand" if parent == "hand" else "link"]
            if "finger" in parent:
                geom.rgba = PAD_COLOUR
                geom.friction, geom.condim = [1.5, 0.05, 0.001], 4
                geom.solref, geom.solimp = GRIP_SOLREF, GRIP_SOLIMP
    _flatten_pads(spec)


def _flatten_pads(spec: Any) -> None:
    """Replace the small pads of each finger by a flat one: round objects fall into the gaps."""
    for geom in [g for g in spec.geoms if "finger" in g.parent.name and g.type == _BOX]:
        if geom.size[0] < SMALL_PAD_M:
            spec.delete(geom)
        else:
            geom.pos = [geom.pos[0], geom.size[1], geom.pos[2]]  # keeps the contact face in place


_BUILTIN, _MARK = mujoco.mjtBuiltin, mujoco.mjtMark
TABLE_TEXTURES: tuple[tuple[str, int, list[float], int, list[float]], ...] = (
    ("grain", _BUILTIN.mjBUILTIN_GRADIENT, [0.9, 0.88, 0.85], _MARK.mjMARK_CROSS, [0.7] * 3),
    ("speckle", _BUILTIN.mjBUILTIN_FLAT, [1, 1, 1], _MARK.mjMARK_RANDOM, [0.55] * 3),
    ("tiles", _BUILTIN.mjBUILTIN_FLAT, [1, 1, 1], _MARK.mjMARK_EDGE, [0.5] * 3),
    ("checks", _BUILTIN.mjBUILTIN_CHECKER, [0.85] * 3, _MARK.mjMARK_NONE, [0.7] * 3),
)
"""Name, pattern, second colour, mark and mark colour; the table's own colour multiplies them."""


def _arm_spec(embodiment: Embodiment, detailed: bool) -> Any:
    """Parse the arm's model, and replace its hand if the embodiment has another."""
    spec = read_spec("franka_fr3.zip", "fr3.xml")
    _tune_arm(spec)
    if embodiment.wrist is not None:
        add_robotiq(spec)
    if not detailed:
        _drop_visual_meshes(spec)
    return spec


def _drop_visual_meshes(spec: Any) -> None:
    """Delete the detailed meshes, which take most of the compiler's time and memory.

    Those of the base remain, since its mass is computed from them.
    """
    for geom in [g for g in spec.geoms if int(g.group) == VISUAL_GROUP]:
        if geom.parent.name != BASE:
            spec.delete(geom)
    used = {geom.meshname for geom in spec.geoms}
    for mesh in [m for m in spec.meshes if m.name not in used]:
        spec.delete(mesh)


def _set_options(spec: Any, image_size: int) -> None:
    spec.option.timestep = TIMESTEP_S
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10.0
    spec.stat.extent, spec.stat.center = EXTENT_M, CENTER_M
    spec.visual.quality.offsamples = 0
    spec.visual.global_.offwidth = spec.visual.global_.offheight = max(640, image_size)
    spec.visual.headlight.diffuse = [0.35, 0.35, 0.35]
    spec.visual.headlight.ambient = [0.3, 0.3, 0.3]
    spec.visual.headlight.specular = [0.0, 0.0, 0.0]


def _add_materials(spec: Any) -> None:
    for name, builtin, second_rgb, mark, mark_rgb in TABLE_TEXTURES:
        spec.add_texture(
            name=name,
            type=mujoco.mjtTexture.mjTEXTURE_2D,
            width=128,
            height=128,
            builtin=builtin,
            rgb1=[1, 1, 1],
            rgb2=second_rgb,
            mark=mark,
            markrgb=mark_rgb,
            random=0.03,
        )
        material = spec.add_material(name=name, texrepeat=[4, 4])
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    spec.add_material(name="plain")


def _add_surroundings(spec: Any) -> None:
    world = spec.worldbody
    world.add_geom(
        name="table",
        type=_BOX,
        size=[0.45, 0.6, 0.02],
        pos=[0.5, 0, -0.02],
        friction=[1.0, 0.02, 0.001],
        condim=4,
        material="plain",
    )
    world.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[4, 4, 0.1],
        pos=[0, 0, -0.7],
        rgba=[0.3, 0.32, 0.35, 1],
    )
    world.add_light(name="sun", pos=[0.3, 0.6, 2.0], dir=[0.1, -0.3, -1.0], diffuse=[0.6] * 3)


def _add_sites_and_cameras(spec: Any, embodiment: Embodiment) -> None:
    link7, wrist = spec.body("fr3_link7"), embodiment.wrist
    link7.add_site(name="flange", pos=FLANGE_POS)
    for camera in embodiment.cameras:
        spec.worldbody.add_camera(
            name=camera.name,
            pos=camera.place_m,
            fovy=camera.fovy_deg,
            quat=look_at(np.array(camera.place_m), np.array(camera.target_m)),
        )
    hand = spec.body("hand")
    hand.add_site(name="tcp", pos=[0, 0, embodiment.flange_to_tcp_m])
    if wrist is None:
        hand.add_camera(name="wrist", pos=[0.06, 0, 0.0], fovy=70, quat=[0, 0.7071, 0.7071, 0])
    else:
        axis = look_at(np.array(wrist.place_m), np.array(wrist.target_m), up=(1.0, 0.0, 0.0))
        hand.add_camera(name="wrist", pos=wrist.place_m, fovy=wrist.fovy_deg, quat=axis)


@lru_cache(maxsize=64)
def build_model(
    shape: str = "cube",
    image_size: int = 128,
    *,
    others: tuple[str, ...] = (),
    wall: bool = False,
    detailed: bool = False,
    embodiment: Embodiment = FRANKA,
) -> mujoco.MjModel:
    """Compile the scene; the result is cached, so copy it before editing.

    Args:
        shape: Shape of the first object, a name in `envs.shapes.SHAPES`.
        image_size: Maximum side of rendered images [px].
        others: Shapes of the other objects, at most two.
        wall: Whether a wall stands on the table.
        detailed: Whether to include the arm's detailed meshes; they change no physics.
        embodiment: Gripper and cameras.

    Raises:
        TaskError: Unknown shape, or too many objects.
    """
    shapes = (shape, *others)
    if len(shapes) > len(BODY_NAMES):
        raise TaskError(f"{len(shapes)} objects; allowed: at most {len(BODY_NAMES)}")
    spec = _arm_spec(embodiment, detailed)
    _set_options(spec, image_size)
    _add_materials(spec)
    _add_surroundings(spec)
    _add_sites_and_cameras(spec, embodiment)
    for name, part in zip(BODY_NAMES, shapes, strict=False):
        add_object(spec, part, name)
    if wall:
        add_wall(spec)
    model = spec.compile()
    for name in ("finger_joint1", "finger_joint2") if embodiment.wrist is None else ():
        dof = model.joint(name).dofadr[0]
        model.dof_armature[dof], model.dof_frictionloss[dof] = 0.03, 0.1
    return model


def look_at(
    position: Array, target: Array, up: tuple[float, float, float] = (0.0, 0.0, 1.0)
) -> Array:
    """Return the quaternion [w, x, y, z] that points a camera at `target`.

    Args:
        position: Position of the camera [3, m].
        target: Point to look at [3, m].
        up: Direction that is up in the image.
    """
    back = (position - target) / np.linalg.norm(position - target)
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    matrix = np.stack([right, np.cross(back, right), back], axis=1)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, matrix.ravel())
    return quaternion
