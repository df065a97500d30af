"""A compiled scene with its arm, objects and renderer."""

from __future__ import annotations

import copy

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.embodiment import FRANKA, Embodiment
from envs.mujoco_arm import MujocoArm
from envs.objects import BODY_NAMES, SceneObject
from envs.rendering import Graphics, Renderer
from envs.scene import build_model

Array = NDArray[np.float64]


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
