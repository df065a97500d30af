"""Render a scene with a headless OpenGL backend, regardless of the order of imports."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.errors import RenderingError, TaskError

FIDELITIES = {"fast": (1, 1, 0, 1, 0, 0), "visual": (1, 1, 1, 0, 0, 0)}
"""Geometry groups to show: recoloured collision meshes, or the visual meshes."""
INSTALL = "sudo apt-get install -y libegl1 libgl1-mesa-dri"


def backends() -> tuple[str, ...]:
    """Return the OpenGL backends to try, in order; MUJOCO_GL overrides them."""
    asked = os.environ.get("MUJOCO_GL", "").lower()
    if asked:
        return (asked,)
    if sys.platform != "linux":
        return ("cgl",) if sys.platform == "darwin" else ("glfw",)
    return ("egl", "osmesa", "glfw") if os.environ.get("DISPLAY") else ("egl", "osmesa")


@cache
def load_triton_first() -> None:
    """Load the library of Triton, which PyTorch's builds for CUDA bring, before Mesa's OpenGL.

    Both contain LLVM, of other versions. Mesa makes its own visible to all libraries that are
    loaded later, and an import of Triton after it, as by the first optimiser, ends the process.
    """
    found = find_spec("triton") if sys.platform == "linux" else None
    for folder in (found and found.submodule_search_locations) or ():
        for library in Path(folder).glob("_C/libtriton*.so"):
            with contextlib.suppress(OSError):  # a broken one is for its user to find
                ctypes.CDLL(str(library))


def open_context(width: int, height: int) -> Any:
    """Create an OpenGL context and make it current.

    Args:
        width: Width of the buffer [px].
        height: Height of the buffer [px].

    Raises:
        RenderingError: No backend works; the message has the command that installs one.
    """
    load_triton_first()
    reasons = []
    for name in backends():
        try:
            context = importlib.import_module(f"mujoco.{name}").GLContext(width, height)
            context.make_current()
        except (ImportError, AttributeError, RuntimeError, OSError) as error:
            reasons.append(f"{name}: {error}")
            continue
        return context
    raise RenderingError(
        f"MuJoCo cannot render here ({'; '.join(reasons)}). Install EGL: {INSTALL}"
    )


class Graphics:
    """OpenGL context with uploaded meshes and textures, about 140 MB.

    Scenes that differ only in boxes and cylinders can share one.

    Args:
        model: Compiled scene with the meshes and textures.
        size: Height of the images [px].
        width: Width of the images [px]; 0 for square ones.

    Raises:
        RenderingError: This machine cannot render.
    """

    def __init__(self, model: mujoco.MjModel, size: int, width: int = 0) -> None:
        self.gl = open_context(width or size, size)
        self.context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.context)

    def close(self) -> None:
        """Free the context, made current first so that no other context's memory is freed."""
        if self.gl is not None:
            self.gl.make_current()
            self.context.free()
            self.gl.free()
            self.gl = None

    def __del__(self) -> None:
        if getattr(self, "context", None) is not None and not sys.is_finalizing():
            self.close()


class Renderer:
    """Renders named cameras of one model to uint8 RGB, without shadows and reflections.

    Args:
        model: Compiled scene.
        size: Height of the images [px].
        fidelity: `fast` or `visual`.
        graphics: Context of a scene with the same meshes and textures; None opens one.
        width: Width of the images [px]; 0 for square ones.

    Raises:
        TaskError: Unknown fidelity.
        RenderingError: This machine cannot render.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        size: int,
        fidelity: str = "fast",
        graphics: Graphics | None = None,
        width: int = 0,
    ) -> None:
        if fidelity not in FIDELITIES:
            raise TaskError(f"Unknown fidelity {fidelity!r}; known: {', '.join(FIDELITIES)}")
        self.model, self.size = model, size
        self.shape = size, width or size
        """Height and width of the images [px]."""
        self.graphics = graphics or Graphics(model, size, width)
        self.scene = mujoco.MjvScene(model, maxgeom=400)
        self.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self.option = mujoco.MjvOption()
        self.option.geomgroup[:] = FIDELITIES[fidelity]
        self.camera = mujoco.MjvCamera()
        self.camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self.rect = mujoco.MjrRect(0, 0, *self.shape[::-1])

    def render(self, data: mujoco.MjData, camera: str) -> NDArray[np.uint8]:
        """Render a camera's image, uint8 RGB [H, W, 3]."""
        out = np.empty((*self.shape, 3), np.uint8)
        self._draw(data, camera)
        mujoco.mjr_readPixels(out, None, self.rect, self.graphics.context)
        return np.ascontiguousarray(out[::-1])

    def measure(
        self, data: mujoco.MjData, camera: str
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return what a camera's pixels show: depths [H, W, m], and numbers of geometries.

        The depth is the distance along the camera's axis. Where nothing is, it is 0 and the number
        is -1.
        """
        colours = np.empty((*self.shape, 3), np.uint8)
        share = np.empty(self.shape, np.float32)
        flags = (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR)
        for flag in flags:
            self.scene.flags[flag] = 1
        try:
            self._draw(data, camera)
            mujoco.mjr_readPixels(colours, share, self.rect, self.graphics.context)
        finally:
            for flag in flags:
                self.scene.flags[flag] = 0
        drawn = np.full(self.scene.ngeom + 1, -1, np.int64)  # number 0 is the background
        for geometry in self.scene.geoms[: self.scene.ngeom]:
            if geometry.objtype == mujoco.mjtObj.mjOBJ_GEOM and geometry.segid >= 0:
                drawn[geometry.segid + 1] = geometry.objid
        numbers = drawn[colours[::-1].astype(np.int64) @ (1, 2**8, 2**16)]
        near, far = (
            limit * self.model.stat.extent
            for limit in (self.model.vis.map.znear, self.model.vis.map.zfar)
        )
        depth = near / (1 - share[::-1] * (1 - near / far))
        return np.where(numbers >= 0, depth, 0).astype(np.float32), numbers

    def _draw(self, data: mujoco.MjData, camera: str) -> None:
        """Draw a camera's image to the buffer of the context, which becomes the current one."""
        if self.graphics.gl is None:
            raise RenderingError("The renderer is closed; create a new environment")
        self.graphics.gl.make_current()
        self.camera.fixedcamid = self.model.camera(camera).id
        mujoco.mjv_updateScene(
            self.model, data, self.option, None, self.camera, mujoco.mjtCatBit.mjCAT_ALL, self.scene
        )
        mujoco.mjr_render(self.rect, self.scene, self.graphics.context)

    def close(self) -> None:
        """Free the OpenGL context, also for the renderers that share it."""
        self.graphics.close()
