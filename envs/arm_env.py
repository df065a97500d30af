"""Gymnasium environments of a Franka arm at a table, observed by an exterior camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.appearance import SPLITS, randomise
from envs.config import CAMERA_NAMES, FACTORS, OBJECTS
from envs.embodiment import get_embodiment
from envs.errors import TaskError
from envs.expert import WayPoint, grasp_points, run_expert
from envs.experts import expert_points
from envs.factors import add_distractor, change_shapes, change_world, require_factor_fits
from envs.goals import MAIN_CAMERA, SubGoal, choose_sub_goals, picture, render_sub_goals
from envs.layout import Clutter, Layout
from envs.mujoco_arm import MujocoArm
from envs.objects import SceneObject
from envs.outcome import describe, is_solved
from envs.play import play_to_goal
from envs.starts import draw_clutter, draw_layout
from envs.tasks import Task, get_task
from envs.world import Worlds

Array = NDArray[np.float64]
Point = tuple[float, float, float]


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
        task: Name of a task in `envs.tasks.TASKS`, or your own task.
        image_size: Height of the images [px]; they are square, or 16:9 with `embodiment="droid"`.
        split: Distribution of appearances, train or held_out.
        fidelity: Appearance of the arm, fast (collision meshes) or visual (detailed meshes).
        objects: Object shapes; each reset picks one at random for each object. Empty uses the
            task's own.
        cameras: Cameras in the observation: left, right, wrist.
        goal_cameras: Cameras of the goal images, the main one first.
        max_steps: Control steps until truncation; 0 uses the task's default.
        terminate_on_success: Whether success ends the episode.
        clutter: More objects and walls, at random places and without a goal, for data sets.
        factor: One change that training never showed, a row of `envs.factors`.
        embodiment: Gripper and cameras: franka (the Franka hand), or droid (the robot of the DROID
            data set, with a Robotiq 2F-85).
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
        task: str | Task = "reach",
        *,
        image_size: int = 128,
        split: str = "train",
        fidelity: str = "fast",
        objects: Sequence[str] = (),
        cameras: Sequence[str] = ("left",),
        goal_cameras: Sequence[str] = MAIN_CAMERA,
        max_steps: int = 0,
        terminate_on_success: bool = False,
        clutter: Clutter | None = None,
        factor: str = "none",
        embodiment: str = "franka",
        render_mode: str | None = "rgb_array",
    ) -> None:
        self.task = task if isinstance(task, Task) else get_task(task)
        objects = tuple(objects) or self.task.objects
        _check_names("split", (split,), tuple(SPLITS))
        _check_names("object", objects, OBJECTS)
        _check_names("factor", (factor,), FACTORS)
        _check_names("camera", (*cameras, *goal_cameras), CAMERA_NAMES)
        self.goal_cameras = tuple(goal_cameras)
        if image_size < 1:
            raise TaskError(f"image_size={image_size}; allowed: at least 1")
        self.split, self.objects, self.cameras = split, objects, tuple(cameras)
        self.image_size, self.fidelity, self.render_mode = image_size, fidelity, render_mode
        self.max_steps = max_steps or self.task.max_steps
        self.terminate_on_success = terminate_on_success
        self.clutter, self.factor = clutter or Clutter(), factor
        self.embodiment = get_embodiment(embodiment)
        self.play_goal: SubGoal | None = None
        if factor != "none" and not self.clutter.is_empty:
            raise TaskError(f"factor={factor} has no effect with clutter; leave one out")
        require_factor_fits(factor, self.task)
        self._worlds = Worlds(image_size, fidelity, self.embodiment)
        width = self.embodiment.width_px(image_size)
        picture = gymnasium.spaces.Box(0, 255, (image_size, width, 3), np.uint8)
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
        self.world = self._worlds.open(shapes, wall=wall)
        self.model, self.data = self.world.model, self.world.data
        self.arm, self.renderer = self.world.arm, self.world.renderer
        self.arm_spec = self.arm.spec

    @property
    def items(self) -> tuple[SceneObject, ...]:
        """Objects of the current scene, those that have to move first."""
        return self.world.objects

    @property
    def box_m(self) -> tuple[Point, Point]:
        """Workspace of planned positions of the flange, low and high [m]."""
        low, high = ((float(x), float(y), float(z)) for x, y, z in self.arm.box_m)
        return low, high

    @property
    def object_m(self) -> Array:
        """Position of the first object's origin [3, m]."""
        return self.items[0].position_m

    @property
    def tcp_m(self) -> Array:
        """Position of the point between the fingertips [3, m]."""
        return self.world.tcp_m

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
            if self.task.starts_holding and not self._grip():
                continue
            if self.factor == "play_goal" and not self._draw_play_goal():
                continue
            if not self.success():
                break
        self.steps = 0
        return self._observe(), self.info()

    def _draw_scene(self, rng: np.random.Generator) -> None:
        """Draw a scene; a factor draws from its own generator, so that the rest stays the same."""
        factor, factor_rng = self.factor, rng.spawn(1)[0]
        if not self.clutter.is_empty:
            shapes, wall = self.clutter.draw_composition(self.objects, rng)
        else:
            indices = [rng.integers(len(self.objects)) for _ in range(self.task.num_objects)]
            shapes, wall = tuple(self.objects[i] for i in indices), self.task.has_wall
        self._open(change_shapes(factor, shapes, factor_rng), wall=wall)
        mujoco.mj_resetData(self.model, self.data)
        randomise(self.world, SPLITS[self.split], rng, len(shapes))
        change_world(factor, self.world, factor_rng)
        radii_m = [item.radius_m for item in self.items[: len(shapes)]]
        if not self.clutter.is_empty:
            self.layout = draw_clutter(self.clutter, radii_m, wall, rng, self.embodiment.left_m)
        else:
            self.layout = draw_layout(self.task, radii_m, rng, self.embodiment.left_m)
        if factor == "distractor":
            self.layout = add_distractor(self.layout, self.items, factor_rng)
        self.world.arrange(self.layout)

    def _grip(self) -> bool:
        """Grasp the first object, move back to the start, and return whether it is held."""
        home = WayPoint(tuple(self.layout.tcp_m))
        run_expert(self.arm, [*grasp_points(self.object_m), home])
        return self.arm.holding()

    def _draw_play_goal(self) -> bool:
        """Replace the goal by a state that play reaches; return whether it reached one."""
        saved = self.arm.snapshot()
        reached = play_to_goal(self, self.np_random.spawn(1)[0])
        x, y, _, yaw = self.items[0].pose
        self.layout = replace(
            self.layout, targets_m=[np.array([x, y])], target_yaws_rad=[float(yaw)]
        )
        steps = self.task.max_steps
        self.play_goal = picture(self.world, "played", steps, self.goal_cameras)
        self.arm.restore(saved)
        return reached

    def success(self) -> bool:
        """Return whether the task is solved; never with `clutter`, which has no goal."""
        return self.clutter.is_empty and is_solved(self.world, self.task, self.layout)

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
            variant: Variant of `envs.goals.VARIANTS`. With `factor="play_goal"` every variant but
                "three" is the one image that play reached.

        Raises:
            TaskError: Unknown variant, or "three" of a task without a lift.
        """
        if self.play_goal is not None:
            return choose_sub_goals([self.play_goal], variant)
        cameras = self.goal_cameras
        return render_sub_goals(self.world, self.task, self.layout, variant, cameras)

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
        solved = {"success": self.success()}
        return solved | describe(self.world, self.task, self.layout)

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Advance by one control step of 0.25 s.

        Args:
            action: DROID delta [7]; values outside the action space are clipped.

        Returns:
            Observation, reward, terminated, truncated and `info()`.
        """
        self.arm.send(np.clip(action, self.action_space.low, self.action_space.high))
        self.steps += 1
        info = self.info()
        ended = bool(info["success"] and self.terminate_on_success)
        out = (self._observe(), float(info["success"]), ended, self.steps >= self.max_steps)
        return *out, info

    def camera_matrix(self, camera: str = "left") -> Array:
        """Return the matrix [3, 4] of a camera for this reset's scene.

        It maps homogeneous points of the base frame [m] to (u w, v w, w): u and v are fractions of
        the image's width and height from its left and top, and w is the depth [m].
        """
        return self.world.camera_matrix(camera)

    def render(self) -> NDArray[np.uint8]:
        """Render the image [H, W, 3] of the left camera."""
        return self.renderer.render(self.data, "left")

    def close(self) -> None:
        """Free the OpenGL context."""
        self._worlds.close()


def _check_names(what: str, names: Sequence[str], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise TaskError(f"Unknown {what} {name!r}; known: {', '.join(known)}")
