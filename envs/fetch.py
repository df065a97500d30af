"""Fetch of gymnasium-robotics: another arm, camera and table, with actions of four numbers.

Requires the extra `fetch`. Source: Plappert et al., Multi-Goal Reinforcement Learning
(arXiv 1802.09464); the environments are those of gymnasium-robotics.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import gymnasium
import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.errors import RenderingError
from envs.gym_env import GymGoalEnv, Picture
from envs.rendering import Graphics
from robot.arm import ArmSpec

Array = NDArray[np.float64]
UP = np.array([0.0, 0.0, 1.0])
OPEN_M = 0.1
"""Distance between the fingers of the open gripper [m]."""
FULL_SPEED_M = 0.03
"""Path of the gripper in one step of the environment at its largest action [m]."""
MAX_STEP_M, RAMP = 0.05, 5
"""Maximum step along an axis [m], and the steps of the environment in which it is reached."""
LOW_M, HIGH_M = np.array([1.05, 0.4, 0.42]), np.array([1.55, 1.1, 0.75])
"""Workspace of the gripper in the environment's own frame [m]."""
ABOVE_M, BEHIND_M = 0.1, 0.07
"""Height above an object before a grasp, and distance behind it before a push [m]."""
HELD_SHARE = 0.5
"""Probability that a recorded movement is the expert's, with noise."""


class _PlainEnums:
    """The module mujoco, with joint types that `in` finds among NumPy's integers.

    gymnasium-robotics compares them so, and MuJoCo's own enumerations have no such order of
    comparison since version 4.
    """

    def __init__(self) -> None:
        members = mujoco.mjtJoint.__members__
        self.mjtJoint = SimpleNamespace(**{name: int(value) for name, value in members.items()})

    def __getattr__(self, name: str) -> Any:
        return getattr(mujoco, name)


def _gymnasium_robotics() -> ModuleType:
    """Import the package.

    Raises:
        RenderingError: It is not installed.
    """
    try:
        found = importlib.import_module("gymnasium_robotics")
        utilities = importlib.import_module("gymnasium_robotics.utils.mujoco_utils")
    except ImportError as error:
        raise RenderingError(
            f"Fetch needs gymnasium-robotics ({error}): pip install 'worldmodel[fetch]'"
        ) from error
    vars(utilities)["mujoco"] = _PlainEnums()
    return found


class _Camera:
    """A camera beside the table, without the marker of the goal.

    Args:
        model: Compiled scene.
        size: Side of the square images [px].
    """

    def __init__(self, model: mujoco.MjModel, size: int) -> None:
        self.graphics, self.size = Graphics(model, size), size
        self.scene, self.option = mujoco.MjvScene(model, maxgeom=400), mujoco.MjvOption()
        self.option.sitegroup[:] = 0
        self.option.flags[mujoco.mjtVisFlag.mjVIS_RANGEFINDER] = 0
        self.view = mujoco.MjvCamera()
        self.view.lookat[:] = (1.3, 0.75, 0.47)
        self.view.distance, self.view.azimuth, self.view.elevation = 1.05, 140.0, -35.0

    def render(self, model: mujoco.MjModel, data: mujoco.MjData) -> Picture:
        """Render RGB uint8 [size, size, 3]."""
        self.graphics.gl.make_current()
        mujoco.mjv_updateScene(
            model, data, self.option, None, self.view, mujoco.mjtCatBit.mjCAT_ALL, self.scene
        )
        rect = mujoco.MjrRect(0, 0, self.size, self.size)
        out = np.empty((self.size, self.size, 3), np.uint8)
        mujoco.mjr_render(rect, self.scene, self.graphics.context)
        mujoco.mjr_readPixels(out, None, rect, self.graphics.context)
        return np.ascontiguousarray(out[::-1])


class _Fetch(GymGoalEnv):
    """A Fetch arm; an action moves the gripper by a distance, in six steps of the environment."""

    arm_spec = ArmSpec(state_dim=4, action_dim=4, max_step_m=MAX_STEP_M)
    repeat = 6
    near_m = 0.05
    gym_id = ""
    """Id of the environment."""
    grips: bool = True
    """Whether the gripper opens and closes."""

    def make_env(self) -> gymnasium.Env[Any, Any]:
        """Create the environment; its pictures are rendered here, for a nearer camera."""
        gymnasium.register_envs(_gymnasium_robotics())
        return gymnasium.make(self.gym_id, max_episode_steps=100_000).unwrapped

    def __init__(self, *, image_size: int = 128) -> None:
        super().__init__(image_size=image_size)
        self.closed, self.part = not self.grips, 0
        self.begin_m = self.target_m = np.zeros(3)
        inner: Any = self.env
        self.inner = inner
        self.camera = _Camera(inner.model, image_size)

    def _start(self) -> None:
        super()._start()
        self.closed = not self.grips

    @property
    def gripper_m(self) -> Array:
        """Position of the point between the fingers [3, m]."""
        return np.asarray(self.seen["observation"][:3], dtype=np.float64)

    @property
    def object_m(self) -> Array:
        """Position of the object [3, m]."""
        return np.asarray(self.seen["achieved_goal"], dtype=np.float64)

    def object_poses(self) -> Array:
        """Return position [m] and yaw [rad] of the cube [1, 4]."""
        return np.append(self.object_m, self.seen["observation"][13])[None]

    @property
    def goal_m(self) -> Array:
        """Goal of the object [3, m]."""
        return np.asarray(self.seen["desired_goal"], dtype=np.float64)

    def position(self) -> NDArray[Any]:
        """Return the gripper's position and closedness [4]."""
        width = float(self.seen["observation"][9:11].sum())
        return np.append(self.gripper_m, np.clip(1 - width / OPEN_M, 0.0, 1.0))

    def picture(self) -> Picture:
        """Return the current picture."""
        return self.camera.render(self.inner.model, self.inner.data)

    def step(self, action: NDArray[np.float32]) -> Any:
        """Move by an action [4]; the gripper stays in its workspace."""
        most = self.arm_spec.max_step_m
        moved = self.gripper_m + np.clip(action[:3], -most, most)
        self.begin_m, self.target_m, self.part = self.gripper_m, np.clip(moved, LOW_M, HIGH_M), 0
        if self.grips and abs(action[3]) > 0.15:
            self.closed = bool(action[3] > 0)
        return super().step(action)

    def to_env(self, action: NDArray[Any]) -> Any:
        """Return the environment's action toward the target of the whole step."""
        self.part += 1
        share = min(1.0, self.part / RAMP)  # an even speed, which does not knock objects away
        place_m = self.begin_m + share * (self.target_m - self.begin_m)
        speed = (place_m - self.gripper_m) / FULL_SPEED_M
        grip = -1.0 if self.closed else 1.0
        return np.append(speed.clip(-1, 1), grip).astype(np.float32)

    def outcome(self) -> tuple[bool, float]:
        """Return whether the object is at its goal, and its distance from it [m]."""
        error_m = float(np.linalg.norm(self.object_m - self.goal_m))
        return error_m <= self.near_m, error_m

    def move(self, place_m: Array, grip: float = 0.0, steps: int = 8) -> Iterator[NDArray[Any]]:
        """Yield actions toward a position, then one that moves the gripper."""
        most = self.arm_spec.max_step_m
        for _ in range(steps):
            left = place_m - self.gripper_m
            if np.abs(left).max() < 0.012:
                break
            yield np.append(left.clip(-most, most), 0.0)
        if grip:
            yield np.array([0.0, 0.0, 0.0, grip])

    def play(self, rng: np.random.Generator) -> Iterator[NDArray[Any]]:
        """Yield the expert's movements with noise and other targets, and random ones."""
        while True:
            if rng.random() < HELD_SHARE:
                target_m = self.goal_m.copy()
                target_m[:2] += rng.normal(0, 0.05, 2)
                for action in self.expert(target_m):
                    if not isinstance(action, str):
                        yield action + np.append(rng.normal(0, 0.012, 3), 0.0)
            else:
                yield from self.move(rng.uniform(LOW_M, HIGH_M), float(rng.choice([-1, 0, 1])), 5)
            if rng.random() < 0.5:
                yield np.array([0.0, 0.0, MAX_STEP_M, -1.0])

    def expert(self, target_m: Array) -> Iterator[NDArray[Any] | str]:
        """Yield the actions that bring the object to a position [3, m].

        Raises:
            NotImplementedError: The class has no expert.
        """
        raise NotImplementedError

    def solve(self, rng: np.random.Generator) -> Iterator[NDArray[Any] | str]:
        """Yield the expert's actions and the names of its sub-goals."""
        yield from self.expert(self.goal_m)

    def close(self) -> None:
        """Free the camera and close the environment."""
        self.camera.graphics.close()
        super().close()


class FetchPickPlace(_Fetch):
    """`FetchPickAndPlace-v4`: carry a cube to a position on or above the table."""

    gym_id = "FetchPickAndPlace-v4"
    goal_steps = 40

    def expert(self, target_m: Array) -> Iterator[NDArray[Any] | str]:
        """Yield grasp and carry, with pictures of the grasped and the placed cube."""
        yield np.array([0.0, 0.0, 0.0, -1.0])
        yield from self.move(self.object_m + UP * ABOVE_M)
        yield from self.move(self.object_m, 1.0)
        yield "grasped"
        yield from self.move(target_m, steps=10)
        yield "placed"


class FetchPush(_Fetch):
    """`FetchPush-v4`: push a cube over the table with the closed gripper."""

    gym_id = "FetchPush-v4"
    goal_steps = 40
    grips = False

    def expert(self, target_m: Array) -> Iterator[NDArray[Any] | str]:
        """Yield the way behind the cube and the push, with a picture of each end."""
        away = self.object_m - target_m
        away[2] = 0.0
        behind_m = self.object_m + BEHIND_M * away / max(float(np.linalg.norm(away)), 1e-6)
        high_m = self.gripper_m
        high_m[2] = LOW_M[2] + ABOVE_M
        yield from self.move(high_m)
        yield from self.move(behind_m + UP * ABOVE_M)
        yield from self.move(behind_m)
        yield "behind"
        for _ in range(20):
            left = target_m - self.object_m
            left[2] = 0.0
            distance = float(np.linalg.norm(left))
            if distance < 0.02:
                break
            # move to where the gripper stands behind the cube after the next part of its way
            reach = self.object_m + left / distance * (min(distance, 0.03) - 0.045)
            step = reach - self.gripper_m
            step[2] = LOW_M[2] - self.gripper_m[2]
            yield np.append(step, 0.0).clip(-MAX_STEP_M, MAX_STEP_M)
        yield "pushed"
