"""Movable objects and the wall of a scene: their bodies, sizes and poses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.shapes import Part, Shape, get_shape, nearest_yaw

Array = NDArray[np.float64]

TIMESTEP_S = 0.0025
GRIP_SOLREF = [2 * TIMESTEP_S, 1.0]
"""Contact parameters of fingers and objects, with the shortest stable time constant. It limits the
stiffness of friction: with a longer one a round object, held along two lines, creeps out of the
fingers."""
GRIP_SOLIMP = [0.98, 0.99, 0.001, 0.5, 2.0]
"""Impedance of the same contacts, stiffer than the default so that a small round object does not
slide down."""
WALL = "wall"
"""Name of the wall's body and geom."""
BODY_NAMES = ("object", "object2", "object3")
"""Bodies of the objects."""
_BOX, _CYLINDER = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER
_CUP_FLOOR_M = 0.0345
"""Height of a cup's dark opening above its origin [m]."""


def add_object(spec: Any, shape: str, name: str = "object") -> None:
    """Add a free body with a shape to a scene.

    Raises:
        TaskError: Unknown shape.
    """
    known = get_shape(shape)
    body = spec.worldbody.add_body(name=name, pos=[0.5, 0.0, 0.03])
    body.add_freejoint(name=name)
    volumes = [8 * float(np.prod(part.size_m)) for part in known.parts]
    for index, (part, volume) in enumerate(zip(known.parts, volumes, strict=True)):
        share = volume / sum(volumes) if len(volumes) > 1 else 1.0
        body.add_geom(
            name=name if index == 0 else f"{name}_part{index + 1}",
            type=_CYLINDER if part.is_round else _BOX,
            size=part.size_m,
            pos=part.centre_m,
            mass=known.mass_kg * share,
            friction=[1.2, 0.02, 0.001],
            condim=4,
            solref=GRIP_SOLREF,
            solimp=GRIP_SOLIMP,
            group=0,
        )
    if known.is_hollow:
        body.add_geom(
            name="inside" if name == "object" else f"{name}_inside",
            type=_CYLINDER,
            size=[0.8 * known.parts[0].size_m[0], 0.002, 0],
            pos=[0, 0, _CUP_FLOOR_M],
            mass=1e-4,
            contype=0,
            conaffinity=0,
            rgba=[0.1, 0.1, 0.1, 1],
        )
    if len(known.parts) > 1:
        _set_inertia(body, known, volumes)


def _set_inertia(body: Any, shape: Shape, volumes: list[float]) -> None:
    """Set mass and inertia explicitly; the compiler would rotate the frame to principal axes.

    The bounding volumes, which `resize` edits, are defined in that frame.
    """
    masses = shape.mass_kg * np.array(volumes) / sum(volumes)
    centres = np.array([part.centre_m for part in shape.parts])
    middle = (masses[:, None] * centres).sum(axis=0) / masses.sum()
    inertia = np.zeros(3)
    for mass, centre, part in zip(masses, centres, shape.parts, strict=True):
        squares = np.array(part.size_m) ** 2 / 3 + (centre - middle) ** 2
        inertia += mass * (squares.sum() - squares)
    body.explicitinertial = True
    body.mass, body.ipos, body.inertia = shape.mass_kg, middle, inertia
    body.iquat = [1, 0, 0, 0]


def add_wall(spec: Any) -> None:
    """Add a wall that stands on the table; `place_wall` sets its size and pose."""
    body = spec.worldbody.add_body(name=WALL, pos=[0.5, 0.0, 0.05])
    body.add_geom(
        name=WALL, type=_BOX, size=[0.01, 0.08, 0.05], friction=[0.6, 0.02, 0.001], condim=4
    )


@dataclass(frozen=True, kw_only=True)
class Wall:
    """A box on the table that does not move."""

    centre_m: tuple[float, float]
    """Position on the table [2]."""
    yaw_rad: float
    """Direction of its length from the y axis, about the vertical."""
    half_m: tuple[float, float, float]
    """Half of its thickness, length and height."""

    @property
    def height_m(self) -> float:
        """Height of its top above the table [m]."""
        return 2 * self.half_m[2]

    def to_local(self, points_m: Array) -> Array:
        """Convert points [..., 2] from the base frame to the wall's own frame [m]."""
        c, s = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        offset = np.asarray(points_m, dtype=np.float64) - np.array(self.centre_m)
        return np.stack(
            [c * offset[..., 0] + s * offset[..., 1], c * offset[..., 1] - s * offset[..., 0]],
            axis=-1,
        )

    def distance_m(self, point_m: Array) -> float:
        """Return the horizontal distance of a point [2] from the wall's faces; 0 inside it [m]."""
        outside = np.abs(self.to_local(point_m)) - np.array(self.half_m[:2])
        return float(np.linalg.norm(np.maximum(outside, 0.0)))


def place_wall(model: mujoco.MjModel, wall: Wall) -> None:
    """Set the size and the pose of the wall in a compiled scene, in place."""
    body = model.body(WALL).id
    model.body_pos[body] = [*wall.centre_m, wall.half_m[2]]
    model.body_quat[body] = [np.cos(wall.yaw_rad / 2), 0, 0, np.sin(wall.yaw_rad / 2)]
    _resize_body(model, body, [(model.geom(WALL).id, Part(size_m=wall.half_m))], 1.0)


class SceneObject:
    """An object of a compiled scene: its pose and its size.

    Args:
        model: Compiled scene.
        data: Simulation data.
        shape: Name of the shape with which the body was built.
        name: Name of the body.
    """

    def __init__(
        self, model: mujoco.MjModel, data: mujoco.MjData, shape: str, name: str = "object"
    ) -> None:
        self.model, self.data, self.name, self.shape_name = model, data, name, shape
        self.shape = get_shape(shape)
        self.body = int(model.body(name).id)
        self.address = int(model.joint(name).qposadr[0])
        parts = [name, *(f"{name}_part{i}" for i in range(2, len(self.shape.parts) + 1))]
        self.geoms = tuple(int(model.geom(part).id) for part in parts)
        self.scale = 1.0

    @property
    def position_m(self) -> Array:
        """Position of the origin [3, m]."""
        return self.data.qpos[self.address : self.address + 3].copy()

    @property
    def yaw_rad(self) -> float:
        """Rotation about the vertical [rad]."""
        w, x, y, z = self.data.qpos[self.address + 3 : self.address + 7]
        return float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))

    @property
    def pose(self) -> Array:
        """Position [m] and yaw [rad] as one array [4]."""
        return np.append(self.position_m, self.yaw_rad)

    @property
    def label(self) -> Array:
        """Return `pose` with the yaw that is nearest to 0 of those that look the same [4].

        A picture can tell no other. The yaw of an object that is as wide as long is NaN: modulo
        half a turn, a cube has two yaws that look the same.
        """
        yaw = nearest_yaw(self.yaw_rad, self.shape.yaw_period_rad)
        return np.append(self.position_m, yaw if self.shape.has_yaw else np.nan)

    @property
    def half_height_m(self) -> float:
        """Half the height at the current size [m]."""
        return self.shape.half_height_m * self.scale

    @property
    def radius_m(self) -> float:
        """Maximum horizontal distance of a point from the origin at the current size [m]."""
        return self.shape.radius_m * self.scale

    @property
    def is_resting(self) -> bool:
        """Whether it is no more than 1 cm above its height on the table."""
        return bool(self.position_m[2] < self.half_height_m + 0.01)

    @property
    def is_on_table(self) -> bool:
        """Whether it is upright on the part of the table that the arm reaches."""
        x, y, z = self.position_m
        up = self.data.xmat[self.body, 8] > 0.98
        return bool(up and 0.34 < x < 0.66 and abs(y) < 0.25 and z > 0.5 * self.half_height_m)

    def put(self, place_m: Array, yaw_rad: float = 0.0) -> None:
        """Put it upright on the table at a position [>=2, m], at rest."""
        pose = [*place_m[:2], self.half_height_m, np.cos(yaw_rad / 2), 0, 0, np.sin(yaw_rad / 2)]
        self.data.qpos[self.address : self.address + 7] = pose
        dof = int(self.model.joint(self.name).dofadr[0])
        self.data.qvel[dof : dof + 6] = 0.0
        mujoco.mj_forward(self.model, self.data)

    def colour(self, rgb: Array) -> None:
        """Set the colour of all its parts [3, 0..1]."""
        for geom in self.geoms:
            self.model.geom_rgba[geom] = [*rgb, 1.0]
            self.model.geom_matid[geom] = -1

    def resize(self, scale: float) -> None:
        """Scale the shape's nominal size, in place."""
        self.scale = scale
        parts = list(zip(self.geoms, self.shape.parts, strict=True))
        _resize_body(self.model, self.body, parts, scale)


def _resize_body(
    model: mujoco.MjModel, body: int, parts: list[tuple[int, Part]], scale: float
) -> None:
    """Resize the geoms of a body and its compiled bounding volumes.

    With the old volumes a larger object has no contacts until another body penetrates it by the
    difference, and contacts flicker there.
    """
    for geom, part in parts:
        size = np.array(part.size_m) * scale
        half = size[[0, 0, 1]] if part.is_round else size
        model.geom_size[geom] = size
        model.geom_pos[geom] = np.array(part.centre_m) * scale
        model.geom_aabb[geom, 3:] = half
        model.geom_rbound[geom] = np.linalg.norm(size[:2] if part.is_round else size)
    resized = {geom for geom, _ in parts}
    members = np.flatnonzero(model.geom_bodyid == body)
    middles = model.geom_pos - model.body_ipos[body]
    around_all = (np.abs(middles[members]) + model.geom_aabb[members, 3:]).max(axis=0)
    first = model.body_bvhadr[body]
    for node in range(first, first + model.body_bvhnum[body]):
        geom = int(model.bvh_nodeid[node])
        if geom in resized:
            model.bvh_aabb[node] = [*middles[geom], *model.geom_aabb[geom, 3:]]
        elif geom < 0:
            model.bvh_aabb[node] = [0, 0, 0, *around_all]
