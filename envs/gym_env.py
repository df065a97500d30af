"""Any Gymnasium environment with pictures as an environment with goal images.

Derive a class from `GymGoalEnv` and override what differs: where the moving part is, how an action
becomes the environment's own, how the goal is reached. What is not overridden works for every
environment with a `Box` action space.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from envs.errors import TaskError
from envs.goals import SubGoal
from envs.rendering import load_triton_first
from envs.sizes import as_pose
from robot.arm import ArmSpec
from robot.constants import GRIPPER_DEAD_BAND

Array = NDArray[np.float64]
Picture = NDArray[np.uint8]
Observation = dict[str, NDArray[Any]]
SAME_GREYS = 2.0
"""Maximum mean difference of two pictures that count as the same state [grey levels]."""
DRIFT, NOISE = 0.6, 0.5
"""Random play keeps this share of its direction, and adds noise, in maximum steps."""
REACH_M = 3.0
"""Maximum x, y and z of a state [m], beyond which its unit is not metres."""
SLACK = 4
"""Steps that a planner may take beyond those that the goal took."""


class GymGoalEnv(gymnasium.Env[Observation, NDArray[np.float32]]):
    """A Gymnasium environment, observed by its pictures, with a goal image.

    Observations have `image`, uint8 [H, W, 3] RGB, and `state` [S]. States and actions have 4
    numbers, or 7 if the class's `arm_spec` says so:

    | number | state | action |
    |---|---|---|
    | 0-2 | position [m] | change of position [m] |
    | 3-5 (of 7 only) | Euler angles [rad] | rotation [rad] |
    | last | closedness, 0 open to 1 closed | above 0.15 close, below -0.15 open, else keep |

    Args:
        env: The environment, with pictures from `render`; None calls `make_env`.
        image_size: Side of the square images [px].

    Raises:
        TaskError: The environment cannot render, or the class is incomplete.
    """

    arm_spec = ArmSpec(state_dim=4, action_dim=4, max_step_m=0.05)
    """Conventions of states and actions, and the duration of an action."""
    repeat: int = 1
    """Steps of the environment for one action."""
    goal_steps: int = 12
    """Maximum number of actions of `solve`."""
    near_m: float = 0.03
    """Distance from the goal's position that counts as success, unless the environment says."""
    box_m: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    """Workspace of planned positions, low and high [m]; None for no limit."""
    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 - Gymnasium's name

    def __init__(
        self, env: gymnasium.Env[Any, Any] | None = None, *, image_size: int = 128
    ) -> None:
        load_triton_first()
        self.env = env or self.make_env()
        self.image_size, self.render_mode = image_size, "rgb_array"
        spec = self.arm_spec
        picture = gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        state = gymnasium.spaces.Box(-np.inf, np.inf, (spec.state_dim,), np.float32)
        self.observation_space = gymnasium.spaces.Dict({"image": picture, "state": state})
        limits = [spec.max_step_m] * 3
        limits += [spec.max_rotation_rad] * (spec.action_dim - 4)
        most = np.array([*limits, 1.0], dtype=np.float32)
        self.action_space = gymnasium.spaces.Box(-most, most, dtype=np.float32)
        self.seen: Any = None
        """Newest observation of the environment."""
        self.env_info: dict[str, Any] = {}
        """Newest `info` of the environment."""
        self.odometry = np.zeros(spec.state_dim)
        self.steps, self.episode_seed = 0, 0
        self.goal: SubGoal | None = None

    # What a class overrides

    def make_env(self) -> gymnasium.Env[Any, Any]:
        """Create the environment, with `render_mode="rgb_array"`.

        Raises:
            TaskError: The class does not say how.
        """
        raise TaskError(f"{type(self).__name__} needs an environment: override make_env")

    def position(self) -> NDArray[Any]:
        """Return the state [S] of the part that moves; by default the sum of all actions.

        The sum is right only for a part that moves exactly as commanded.
        """
        return self.odometry

    def to_env(self, action: NDArray[Any]) -> Any:
        """Return the environment's own action for an action [A].

        By default its numbers are x, y, z and the gripper, as many as it has, scaled from the
        largest step to the space's limits.

        Raises:
            TaskError: The environment's actions are not a `Box` of one axis.
        """
        space = self.env.action_space
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise TaskError(f"The environment's actions are {space}: override to_env")
        numbers = np.append(action[:3] / self.arm_spec.max_step_m, action[-1]).clip(-1, 1)
        given = np.zeros(space.shape[0])
        given[: len(numbers)] = numbers[: len(given)]
        low, high = np.maximum(space.low, -1e3), np.minimum(space.high, 1e3)
        return (low + (given + 1) / 2 * (high - low)).astype(space.dtype)

    def picture(self) -> Picture:
        """Return the current picture, RGB uint8 [H, W, 3] of any size."""
        return np.asarray(self.env.render())

    def solve(self, rng: np.random.Generator) -> Iterator[NDArray[Any] | str]:
        """Yield the actions that lead to this episode's goal, by default random play.

        A name instead of an action takes a picture as a sub-goal; the last picture is the goal.
        """
        yield from self.play(rng)

    def play(self, rng: np.random.Generator) -> Iterator[NDArray[Any]]:
        """Yield actions without end for recording data, by default random ones."""
        most = self.action_space.high
        drift = rng.normal(0, NOISE, len(most))
        while True:
            drift = DRIFT * drift + rng.normal(0, NOISE, len(most))
            action = (drift * most).clip(-most, most)
            action[-1] = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1])
            yield action

    def outcome(self) -> tuple[bool, float]:
        """Return whether the goal is reached, and the remaining error [m].

        By default the environment's own `is_success` or `success`, else the distance of the
        position from that in the goal image.
        """
        if self.goal is None:
            return False, float("nan")
        error_m = float(np.linalg.norm(self.position()[:3] - self.goal.state[:3]))
        own = self.env_info.get("is_success", self.env_info.get("success"))
        return error_m <= self.near_m if own is None else bool(own), error_m

    def object_poses(self) -> Array:
        """Return position [m] and yaw [rad] of each object [M, 4], by default of none.

        They are recorded as labels, for training with them and for measuring; no planner sees them.
        """
        return np.zeros((0, 4))

    # What a class has from here

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seed of the scene and of the goal; None draws one.
            options: Ignored; required by Gymnasium's interface.

        Returns:
            Observation and `info()`.
        """
        super().reset(seed=seed)
        self.episode_seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self.goal = None
        self._start()
        return self._observe(), self.info()

    def _start(self) -> None:
        self.seen, self.env_info = self.env.reset(seed=self.episode_seed)
        self.odometry, self.steps = np.zeros(self.arm_spec.state_dim), 0

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Advance by one action, clipped to the action space.

        Returns:
            Observation, reward, terminated, truncated and `info()`.
        """
        space = self.action_space
        clipped = np.clip(action, space.low, space.high)
        reward, ended, late = 0.0, False, False
        for _ in range(self.repeat):
            self.seen, more, ended, late, self.env_info = self.env.step(self.to_env(clipped))
            reward += float(more)
            if ended or late:
                break
        self.odometry = self._moved(self.odometry, clipped)
        self.steps += 1
        return self._observe(), reward, bool(ended), bool(late), self.info()

    @staticmethod
    def _moved(state: Array, action: NDArray[Any]) -> Array:
        after = state + action
        after[-1] = state[-1]
        if abs(action[-1]) > GRIPPER_DEAD_BAND:
            after[-1] = float(action[-1] > 0)
        return after

    def _observe(self) -> Observation:
        return {"image": self._image(), "state": self._state()}

    def _state(self) -> NDArray[np.float32]:
        state = np.asarray(self.position(), dtype=np.float32)
        if state.shape != (self.arm_spec.state_dim,):
            raise TaskError(
                f"position() has shape {state.shape}; allowed: {self.arm_spec.state_dim} numbers, "
                "as arm_spec says"
            )
        if not (np.abs(state[:3]) <= REACH_M).all() or not np.isfinite(state).all():
            raise TaskError(
                f"position() is {state.tolist()}; allowed: finite numbers, and x, y, z from "
                f"-{REACH_M:g} to {REACH_M:g} m. Give metres, or a unit that keeps them within it"
            )
        return state

    def _image(self) -> Picture:
        try:
            shown = self.picture()
        except gymnasium.error.Error as error:
            raise TaskError(f"The environment cannot render: {error}") from error
        if shown.ndim != 3 or shown.shape[2] != 3 or shown.dtype != np.uint8:
            raise TaskError(
                f"The environment's picture is {shown.dtype} {shown.shape}; allowed: RGB uint8 "
                "(height, width, 3). Create it with render_mode='rgb_array'"
            )
        size = (self.image_size, self.image_size)
        if shown.shape[:2] == size:
            return np.ascontiguousarray(shown)
        return np.asarray(Image.fromarray(shown).resize(size, Image.Resampling.BOX))

    def info(self) -> dict[str, Any]:
        """Return `success` and the remaining error `error_m` [m], which no policy may use."""
        success, error_m = self.outcome()
        return {"success": success, "error_m": error_m}

    def sub_goals(self, variant: str = "default") -> list[SubGoal]:
        """Carry out `solve` for the goal images, then start the episode again.

        Args:
            variant: `default` for all of them, `last` or `one` for the goal alone.

        Raises:
            TaskError: The episode has begun, or does not start again as it was.
        """
        if variant not in ("default", "last", "one"):
            raise TaskError(f"sub_goals={variant!r}; allowed here: default, last, one")
        if self.steps:
            raise TaskError("Goal images are made at the start of an episode: call reset first")
        before = self._image().astype(float)
        goals = self._solved()
        self._start()
        self.goal = goals[-1]
        if np.abs(self._image() - before).mean() > SAME_GREYS:
            raise TaskError(
                f"{type(self).__name__} does not start again as it was with the same seed. Seed "
                "every random number of the environment from reset(seed=...)"
            )
        return goals if variant == "default" else goals[-1:]

    def _solved(self) -> list[SubGoal]:
        goals: list[SubGoal] = []
        spent = 0
        rng = np.random.default_rng(self.episode_seed)
        for action in self.solve(rng):
            if isinstance(action, str):
                goals.append(self._goal(action, spent))
                spent = 0
                continue
            if self.steps >= self.goal_steps:
                break
            self.step(np.asarray(action, dtype=np.float32))
            spent += 1
        if spent or not goals:
            goals.append(self._goal("goal", spent))
        return goals

    def _goal(self, name: str, steps: int) -> SubGoal:
        return SubGoal(name, self._image(), self._state(), steps + SLACK)

    def pose(self) -> Array:
        """Return the state as a pose [7], which data sets hold."""
        return as_pose(self.position())

    def render(self) -> Any:
        """Return the current image."""
        return self._image()

    def close(self) -> None:
        """Close the environment."""
        self.env.close()
