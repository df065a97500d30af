"""Gymnasium environments of a Franka arm at a table, observed by an exterior camera."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.appearance import SPLITS, randomise
from envs.config import CAMERA_NAMES, OBJECTS
from envs.errors import TaskError
from envs.expert import (
    WayPoint,
    flange_position,
    grasp_points,
    pick_place_points,
    push_points,
    run_expert,
)
from envs.goals import SubGoal, choose_sub_goals
from envs.mujoco_arm import MujocoArm, rest_joints
from envs.rendering import Renderer
from envs.scene import build_model
from envs.tasks import ARM_HIGH_M, ARM_LOW_M, OBJECT_HIGH_M, OBJECT_LOW_M, draw_apart, get_task
from envs.tasks import succeeded as task_succeeded

Array = NDArray[np.float64]


class ArmEnv(gymnasium.Env[dict[str, Any], NDArray[np.float32]]):
    """A Franka arm controlled by DROID deltas at 4 Hz.

    The observation has `image`, uint8 [H, W, 3] RGB of the left camera (other cameras are
    `image_<name>`), and `state`, float32 [7]:

    | state | meaning | unit | min | max |
    |---|---|---|---|---|
    | 0-2 | position of the flange, base frame | m | -inf | inf |
    | 3-5 | orientation of the flange, extrinsic xyz Euler angles | rad | -pi | pi |
    | 6 | gripper, 0 open to 1 closed | - | 0 | 1 |

    | action | meaning | unit | min | max |
    |---|---|---|---|---|
    | 0-2 | change of position | m | -0.075 | 0.075 |
    | 3-5 | rotation, R_next @ R_now^T as Euler xyz | rad | -0.15 | 0.15 |
    | 6 | gripper: above 0.15 close, below -0.15 open, else keep | - | -1 | 1 |

    The reward is 1.0 on success, else 0.0. An episode is truncated after `max_steps` and
    terminated only with `terminate_on_success`.

    Args:
        task: reach, grasp, reach_with_object, pick_place or push.
        image_size: Side of the square images [px].
        split: Distribution of appearances, train or held_out.
        fidelity: Appearance of the arm, fast (collision meshes) or visual (detailed meshes).
        objects: Object shapes; each reset picks one at random.
        cameras: Cameras in the observation: left, right, wrist.
        max_steps: Control steps until truncation; 0 uses the task's default.
        terminate_on_success: Whether success ends the episode.
        render_mode: Gymnasium's render mode; only rgb_array is supported.

    Raises:
        TaskError: Unknown task, object, split, fidelity or camera, or an image size below 1.
        RenderingError: This machine cannot render.
    """

    arm_spec = MujocoArm.spec
    """State and action conventions of the arm."""
    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 - Gymnasium's name

    def __init__(
        self,
        task: str = "reach",
        *,
        image_size: int = 128,
        split: str = "train",
        fidelity: str = "fast",
        objects: tuple[str, ...] | list[str] = ("cube",),
        cameras: tuple[str, ...] | list[str] = ("left",),
        max_steps: int = 0,
        terminate_on_success: bool = False,
        render_mode: str | None = "rgb_array",
    ) -> None:
        self.task = get_task(task)
        if split not in SPLITS:
            raise TaskError(f"Unknown split {split!r}; known: {', '.join(SPLITS)}")
        for shape in objects:
            if shape not in OBJECTS:
                raise TaskError(f"Unknown object {shape!r}; known: {', '.join(OBJECTS)}")
        for camera in cameras:
            if camera not in CAMERA_NAMES:
                raise TaskError(f"Unknown camera {camera!r}; known: {', '.join(CAMERA_NAMES)}")
        if image_size < 1:
            raise TaskError(f"image_size={image_size}; allowed: at least 1")
        self.split, self.objects, self.cameras = split, tuple(objects), tuple(cameras)
        self.image_size, self.fidelity, self.render_mode = image_size, fidelity, render_mode
        self.max_steps = max_steps or self.task.max_steps
        self.terminate_on_success = terminate_on_success
        self._worlds: dict[str, tuple[mujoco.MjModel, mujoco.MjData, MujocoArm, Renderer]] = {}
        picture = gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        spaces: dict[str, gymnasium.Space[Any]] = {self._key(name): picture for name in cameras}
        spaces["state"] = gymnasium.spaces.Box(-np.inf, np.inf, (7,), np.float32)
        self.observation_space = gymnasium.spaces.Dict(spaces)
        limits = [self.arm_spec.max_step_m] * 3 + [self.arm_spec.max_rotation_rad] * 3 + [1.0]
        most = np.array(limits, dtype=np.float32)
        self.action_space = gymnasium.spaces.Box(-most, most, dtype=np.float32)
        self.goal_tcp_m, self.target_m = np.zeros(3), np.zeros(3)
        self._open(self.objects[0])

    @staticmethod
    def _key(camera: str) -> str:
        return "image" if camera == "left" else f"image_{camera}"

    def _open(self, shape: str) -> None:
        if shape not in self._worlds:
            model = copy.deepcopy(build_model(shape, self.image_size))
            data = mujoco.MjData(model)
            renderer = Renderer(model, self.image_size, self.fidelity)
            self._worlds[shape] = (model, data, MujocoArm(model, data), renderer)
        self.shape = shape
        self.model, self.data, self.arm, self.renderer = self._worlds[shape]
        self.object_address = int(self.model.joint("object").qposadr[0])

    @property
    def object_m(self) -> Array:
        """Position of the object's centre [3, m]."""
        return self.data.qpos[self.object_address : self.object_address + 3].copy()

    @property
    def tcp_m(self) -> Array:
        """Position of the point between the fingertips [3, m]."""
        return self.data.site_xpos[self.arm.tcp].copy()

    def _put_object(self, place: Array) -> None:
        pose = [*place[:2], self.half_height_m(), 1, 0, 0, 0]
        self.data.qpos[self.object_address : self.object_address + 7] = pose
        mujoco.mj_forward(self.model, self.data)

    def half_height_m(self) -> float:
        """Return half the object's height [m], the height of its middle when it rests."""
        size = self.model.geom_size[self.model.geom("object").id]
        cylinder = self.model.geom_type[self.model.geom("object").id] == 5
        return float(size[1] if cylinder else size[2])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw appearance, positions and a goal, and redraw while the start already meets the goal.

        Args:
            seed: Seed of the environment's random generator; None continues it.
            options: Ignored; required by Gymnasium's interface.

        Returns:
            Observation and `info()`.
        """
        super().reset(seed=seed)
        rng = self.np_random
        while True:
            self._open(self.objects[rng.integers(len(self.objects))])
            mujoco.mj_resetData(self.model, self.data)
            randomise(self.model, self.split, rng)
            start = rng.uniform(ARM_LOW_M, ARM_HIGH_M)
            self.arm.reset(rest_joints(self.arm.ik, flange_position(start)))
            self._put_object(rng.uniform(OBJECT_LOW_M, OBJECT_HIGH_M))
            self._draw_goal(rng, start)
            for _ in range(40):
                mujoco.mj_step(self.model, self.data)
            mujoco.mj_forward(self.model, self.data)
            if self.task.starts_holding:
                run_expert(self.arm, [*grasp_points(self.object_m), WayPoint(tuple(start))])
                if not self.arm.holding():
                    continue
            if not self.success():
                break
        self.steps = 0
        return self._observe(), self.info()

    def _draw_goal(self, rng: np.random.Generator, start: Array) -> None:
        self.target_m = np.append(draw_apart(rng, self.object_m, 0.08, 0.3), self.half_height_m())
        if self.task.name == "push":
            near = draw_apart(rng, self.object_m, 0.07, 0.15)
            self.target_m = np.append(near, self.half_height_m())
        self.goal_tcp_m = rng.uniform(ARM_LOW_M, ARM_HIGH_M)
        while np.linalg.norm(self.goal_tcp_m - start) < 0.08:
            self.goal_tcp_m = rng.uniform(ARM_LOW_M, ARM_HIGH_M)

    def success(self) -> bool:
        """Return whether the task is solved in the current state."""
        return task_succeeded(
            self.task,
            tcp_m=self.tcp_m,
            goal_tcp_m=self.goal_tcp_m,
            object_m=self.object_m,
            target_m=self.target_m,
            holding=self.arm.holding(),
            closed=self.arm.closed,
            resting=bool(self.object_m[2] < self.half_height_m() + 0.01),
        )

    def expert_points(self) -> list[WayPoint]:
        """Return the scripted expert's waypoints from the current state."""
        name = self.task.name
        if name == "grasp":
            return grasp_points(self.object_m)
        if name == "pick_place":
            return pick_place_points(self.object_m, self.target_m)
        if name == "push":
            half = float(self.model.geom_size[self.model.geom("object").id][0])
            return push_points(self.object_m, self.target_m, half, self.tcp_m)
        return [WayPoint(tuple(self.goal_tcp_m), 0.0, "reached", 10)]

    def solve(self, rounds: int = 4) -> int:
        """Let the scripted expert solve the task from the current state.

        Args:
            rounds: Maximum number of attempts; a push that slips restarts from the object's current
                position.

        Returns:
            Control steps taken.
        """
        steps = 0
        for _ in range(rounds):
            steps += len(run_expert(self.arm, self.expert_points()))
            if self.success():
                break
        return steps

    def sub_goals(self, variant: str = "default") -> list[SubGoal]:
        """Render this reset's goal images with the expert, then restore the simulation exactly.

        Args:
            variant: Variant of `choose_sub_goals`.

        Raises:
            TaskError: Unknown variant.
        """
        choose_sub_goals([], variant)
        saved = self.arm.snapshot()
        goals = []
        if self.task.name == "push":
            self._put_object(self.target_m)
            goals.append(self._picture("pushed", 30))
        else:
            for point in self.expert_points():
                run_expert(self.arm, [point])
                if point.name:
                    goals.append(self._picture(point.name, point.steps))
        self.arm.restore(saved)
        return choose_sub_goals(goals, variant)

    def _picture(self, name: str, steps: int) -> SubGoal:
        image = self.renderer.render(self.data, "left")
        return SubGoal(name, image, self.arm.state().state.astype(np.float32), steps)

    def _observe(self) -> dict[str, Any]:
        seen: dict[str, Any] = {
            self._key(name): self.renderer.render(self.data, name) for name in self.cameras
        }
        seen["state"] = self.arm.state().state.astype(np.float32)
        return seen

    def info(self) -> dict[str, Any]:
        """Return `success`, `holding` and the positions [m] of fingertips, object and goals."""
        return {
            "success": self.success(),
            "tcp_m": self.tcp_m,
            "object_m": self.object_m,
            "target_m": self.target_m.copy(),
            "goal_tcp_m": self.goal_tcp_m.copy(),
            "holding": self.arm.holding(),
        }

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Advance by one control step of 0.25 s.

        Args:
            action: DROID delta [7]; values outside the action space are clipped.

        Returns:
            Observation, reward, terminated, truncated and `info()`.
        """
        self.arm.send(np.clip(action, self.action_space.low, self.action_space.high))  # type: ignore[attr-defined]
        self.steps += 1
        info = self.info()
        ended = bool(info["success"] and self.terminate_on_success)
        out = (self._observe(), float(info["success"]), ended, self.steps >= self.max_steps)
        return *out, info

    def render(self) -> NDArray[np.uint8]:  # type: ignore[override]
        """Render the image [H, W, 3] of the left camera."""
        return self.renderer.render(self.data, "left")

    def close(self) -> None:
        """Free the OpenGL contexts."""
        for *_, renderer in self._worlds.values():
            renderer.close()
        self._worlds.clear()
