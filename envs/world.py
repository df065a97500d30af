"""Compiled scenes, each with its arm, objects and renderer."""

from __future__ import annotations

import copy

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.embodiment import FRANKA, Embodiment
from envs.expert import flange_position
from envs.layout import Layout
from envs.mujoco_arm import MujocoArm, rest_joints
from envs.objects import BODY_NAMES, SceneObject, place_wall
from envs.rendering import Graphics, Renderer
from envs.scene import build_model

Array = NDArray[np.float64]
SETTLE_STEPS = 40
"""Physics steps after which what was put somewhere is at rest."""


class World:
    """Model, simulation data, arm, objects and renderer of one composition of a scene.

    Args:
        shapes: Shapes of the objects.
        wall: Whether a wall stands on the table.
        image_size: Height of the images, whose width is the embodiment's [px].
        fidelity: Appearance of the arm, fast or visual.
        graphics: OpenGL context of another world; None opens one.
        embodiment: Gripper and cameras.

    Raises:
        TaskError: Unknown shape or fidelity, or too many objects.
        RenderingError: This machine cannot render.
    """

    def __init__(
        self,
        shapes: tuple[str, ...],
        *,
        wall: bool,
        image_size: int,
        fidelity: str,
        graphics: Graphics | None = None,
        embodiment: Embodiment = FRANKA,
    ) -> None:
        self.shapes, self.has_wall, self.embodiment = shapes, wall, embodiment
        width = embodiment.width_px(image_size)
        compiled = build_model(
            shapes[0],
            max(image_size, width),
            others=shapes[1:],
            wall=wall,
            detailed=fidelity == "visual",
            embodiment=embodiment,
        )
        self.nominal, self.model = compiled, copy.deepcopy(compiled)
        self.data = mujoco.MjData(self.model)
        self.renderer = Renderer(self.model, image_size, fidelity, graphics, width)
        self.arm = MujocoArm(self.model, self.data, embodiment)
        names = zip(shapes, BODY_NAMES, strict=False)
        self.objects = tuple(SceneObject(self.model, self.data, s, name) for s, name in names)

    @property
    def tcp_m(self) -> Array:
        """Position of the point between the fingertips [3, m]."""
        return self.data.site_xpos[self.arm.tcp].copy()

    def arrange(self, layout: Layout) -> None:
        """Put arm, objects and wall where the layout says, and let them settle."""
        if layout.wall is not None:
            place_wall(self.model, layout.wall)
        flange_m = flange_position(layout.tcp_m, self.embodiment.flange_to_tcp_m)
        self.arm.reset(rest_joints(self.arm.ik, flange_m))
        for item, place, yaw in zip(self.objects, layout.objects_m, layout.yaws_rad, strict=True):
            item.put(place, yaw)
        for _ in range(SETTLE_STEPS):
            mujoco.mj_step(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)

    def camera_matrix(self, camera: str) -> Array:
        """Return the matrix [3, 4] of a camera.

        It maps homogeneous points of the base frame [m] to (u w, v w, w): u and v are fractions of
        the image's width and height from its left and top, and w is the depth [m].
        """
        index = self.model.camera(camera).id
        place_3 = self.data.cam_xpos[index]
        # MuJoCo's cameras look along their -z axis, with y up
        right, up, back = self.data.cam_xmat[index].reshape(3, 3).T
        focal = 0.5 / np.tan(np.radians(self.model.cam_fovy[index]) / 2)
        height, width = self.renderer.shape
        across = focal * height / width
        rows_33 = np.stack([across * right - 0.5 * back, -focal * up - 0.5 * back, -back])
        return np.column_stack([rows_33, -rows_33 @ place_3])


class Worlds:
    """Worlds by composition, compiled when first needed; they share one OpenGL context."""

    def __init__(self, image_size: int, fidelity: str, embodiment: Embodiment) -> None:
        self.image_size, self.fidelity, self.embodiment = image_size, fidelity, embodiment
        self._found: dict[tuple[tuple[str, ...], bool], World] = {}

    def open(self, shapes: tuple[str, ...], *, wall: bool) -> World:
        """Return the world with objects of these shapes, and a wall or none.

        Raises:
            TaskError: Unknown shape or fidelity, or too many objects.
            RenderingError: This machine cannot render.
        """
        if (shapes, wall) not in self._found:
            shared = next((w.renderer.graphics for w in self._found.values()), None)
            self._found[shapes, wall] = World(
                shapes,
                wall=wall,
                image_size=self.image_size,
                fidelity=self.fidelity,
                graphics=shared,
                embodiment=self.embodiment,
            )
        return self._found[shapes, wall]

    def close(self) -> None:
        """Free the OpenGL context."""
        for world in self._found.values():
            world.renderer.close()
        self._found.clear()
