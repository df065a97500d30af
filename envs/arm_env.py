"""Gymnasium environments of a Franka arm at a table, observed by an exterior camera."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.appearance import SPLITS, randomise
from envs.config import CAMERA_NAMES, OBJECTS
from envs.errors import TaskError
from envs.expert import WayPoint, flange_position, grasp_points, run_expert
from envs.experts import expert_points
from envs.goals import SubGoal, render_sub_goals
from envs.layout import Clutter, Layout
from envs.mujoco_arm import MujocoArm, rest_joints
from envs.objects import SceneObject, place_wall
from envs.shapes import yaw_difference
from envs.starts import draw_clutter, draw_layout
from envs.tasks import ObjectError, get_task
from envs.tasks import succeeded as task_succeeded
from envs.world import World

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
        task: Name of a task in `envs.tasks.TASKS`.
        image_size: Side of the square images [px].
        split: Distribution of appearances, train or held_out.
        fidelity: Appearance of the arm, fast (collision meshes) or visual (detailed meshes).
        objects: Object shapes; each reset picks one at random for each object. Empty uses the
            task's own.
        cameras: Cameras in the observation: left, right, wrist.
        max_steps: Control steps until truncation; 0 uses the task's default.
        terminate_on_success: Whether success ends the episode.
        clutter: More objects and walls, at random places and without a goal, for data sets.
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
        objects: Sequence[str] = (),
        cameras: Sequence[str] = ("left",),
        max_steps: int = 0,
        terminate_on_success: bool = False,
        clutter: Clutter | None = None,
        render_mode: str | None = "rgb_array",
    ) -> None:
        self.task = get_task(task)
        objects = tuple(objects) or self.task.objects
        _check_names("split", (split,), tuple(SPLITS))
        _check_names("object", objects, OBJECTS)
        _check_names("camera", cameras, CAMERA_NAMES)
        if image_size < 1:
            raise TaskError(f"image_size={image_size}; allowed: at least 1")
        self.split, self.objects, self.cameras = split, objects, tuple(cameras)
        self.image_size, self.fidelity, self.render_mode = image_size, fidelity, render_mode
        self.max_steps = max_steps or self.task.max_steps
        self.terminate_on_success = terminate_on_success
        self.clutter = clutter or Clutter()
        self._worlds: dict[tuple[tuple[str, ...], bool], World] = {}
        picture = gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        spaces: dict[str, gymnasium.Space[Any]] = {self._key(name): picture for name in cameras}
        spaces["state"] = gymnasium.spaces.Box(-np.inf, np.inf, (7,), np.float32)
        self.observation_space = gymnasium.spaces.Dict(spaces)
        limits = [self.arm_spec.max_step_m] * 3 + [self.arm_spec.max_rotation_rad] * 3 + [1.0]
        most = np.array(limits, dtype=np.float32)
        self.action_space = gymnasium.spaces.Box(-most, most, dtype=np.float32)
        self._open(objects[:1] * self.task.num_objects, wall=self.task.has_wall)
        self.layout: Layout

    @staticmethod
    def _key(camera: str) -> str:
        return "image" if camera == "left" else f"image_{camera}"

    def _open(self, shapes: tuple[str, ...], *, wall: bool) -> None:
        if (shapes, wall) not in self._worlds:
            shared = next((w.renderer.graphics for w in self._worlds.values()), None)
            self._worlds[shapes, wall] = World(
                shapes,
                wall=wall,
                image_size=self.image_size,
                fidelity=self.fidelity,
                graphics=shared,
            )
        self.world = self._worlds[shapes, wall]
        self.model, self.data = self.world.model, self.world.data
        self.arm, self.renderer = self.world.arm, self.world.renderer

    @property
    def items(self) -> tuple[SceneObject, ...]:
        """Objects of the current scene, those that have to move first."""
        return self.world.objects

    @property
    def object_m(self) -> Array:
        """Position of the first object's origin [3, m]."""
        return self.items[0].position_m

    @property
    def tcp_m(self) -> Array:
        """Position of the point between the fingertips [3, m]."""
        return self.data.site_xpos[self.arm.tcp].copy()

    @property
    def target_m(self) -> Array:
        """Target of the first object's origin [3, m]."""
        return np.append(self.layout.targets_m[0], self.items[0].half_height_m)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw appearance, positions and a goal, and redraw while the start already meets the goal.

        Args:
            seed: Seed of the environment's random generator; None continues it.
            options: Ignored; required by Gymnasium's interface.

        Returns:
            Observation and `info()`.

        Raises:
            TaskError: The objects are too large for the table.
        """
        super().reset(seed=seed)
        while True:
            self._draw_scene(self.np_random)
            if self.task.starts_holding:
                home = WayPoint(tuple(self.layout.tcp_m))
                run_expert(self.arm, [*grasp_points(self.object_m), home])
                if not self.arm.holding():
                    continue
            if not self.success():
                break
        self.steps = 0
        return self._observe(), self.info()

    def _draw_scene(self, rng: np.random.Generator) -> None:
        cluttered = not self.clutter.is_empty
        if cluttered:
            shapes, wall = self.clutter.draw_composition(self.objects, rng)
        else:
            indices = [rng.integers(len(self.objects)) for _ in range(self.task.num_objects)]
            shapes, wall = tuple(self.objects[i] for i in indices), self.task.has_wall
        self._open(shapes, wall=wall)
        mujoco.mj_resetData(self.model, self.data)
        randomise(self.world, SPLITS[self.split], rng)
        radii_m = [item.radius_m for item in self.items]
        if cluttered:
            self.layout = draw_clutter(self.clutter, radii_m, wall, rng)
        else:
            self.layout = draw_layout(self.task, radii_m, rng)
        self._arrange()

    def _arrange(self) -> None:
        """Put everything where the layout says, and let it settle."""
        layout = self.layout
        if layout.wall is not None:
            place_wall(self.model, layout.wall)
        self.arm.reset(rest_joints(self.arm.ik, flange_position(layout.tcp_m)))
        for item, place, yaw in zip(self.items, layout.objects_m, layout.yaws_rad, strict=True):
            item.put(place, yaw)
        for _ in range(40):
            mujoco.mj_step(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)

    def errors(self) -> list[ObjectError]:
        """Return the error of each object."""
        layout = self.layout
        targets = zip(self.items, layout.targets_m, layout.target_yaws_rad, strict=True)
        return [
            ObjectError(
                distance_m=float(np.linalg.norm(item.position_m[:2] - target)),
                yaw_rad=yaw_difference(item.yaw_rad, yaw, item.shape.yaw_period_rad),
                resting=item.is_resting,
            )
            for item, target, yaw in targets
        ]

    def success(self) -> bool:
        """Return whether the task is solved; never with `clutter`, which has no goal."""
        return self.clutter.is_empty and task_succeeded(
            self.task,
            tcp_m=self.tcp_m,
            goal_tcp_m=self.layout.goal_tcp_m,
            errors=self.errors(),
            holding=self.arm.holding(),
            closed=self.arm.closed,
        )

    def expert_points(self) -> list[WayPoint]:
        """Return the scripted expert's waypoints from the current state."""
        return expert_points(self.task, self.arm, self.items, self.layout)

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
        """Render this reset's goal images, then restore the simulation exactly.

        Args:
            variant: Variant of `envs.goals.VARIANTS`.

        Raises:
            TaskError: Unknown variant.
        """
        return render_sub_goals(self.world, self.task, self.layout, variant)

    def _observe(self) -> dict[str, Any]:
        seen: dict[str, Any] = {
            self._key(name): self.renderer.render(self.data, name) for name in self.cameras
        }
        seen["state"] = self.arm.state().state.astype(np.float32)
        return seen

    def info(self) -> dict[str, Any]:
        """Return the outcome and the true positions, which no policy may use.

        `success`, `holding`, positions [m] of fingertips, first object and goals; for each object
        its pose `objects` [M, 4] (x, y, z [m], yaw [rad]), and for each object that has to move
        `errors_m` and `yaw_errors_rad`.
        """
        errors = self.errors()[: self.task.num_moving]
        return {
            "success": self.success(),
            "tcp_m": self.tcp_m,
            "object_m": self.object_m,
            "target_m": self.target_m,
            "goal_tcp_m": self.layout.goal_tcp_m.copy(),
            "holding": self.arm.holding(),
            "objects": np.stack([item.pose for item in self.items]),
            "errors_m": np.array([error.distance_m for error in errors]),
            "yaw_errors_rad": np.array([error.yaw_rad for error in errors]),
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
        """Free the OpenGL context."""
        for world in self._worlds.values():
            world.renderer.close()
        self._worlds.clear()


def _check_names(what: str, names: Sequence[str], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise TaskError(f"Unknown {what} {name!r}; known: {', '.join(known)}")
