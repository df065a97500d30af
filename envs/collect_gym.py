"""Record episodes of an environment with goal images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from envs.collect import MOVED_M, EpisodeSummary, WriteEpisode
from envs.config import CollectConfig
from envs.errors import TaskError
from envs.sizes import as_pose
from robot.arm import ArmSpec
from robot.pose import gripper_command
from robot.record import Recording

KIND = "play"


class PlayedEnv(Protocol):
    """What recording needs of an environment; `envs.gym_env.GymGoalEnv` implements it."""

    @property
    def arm_spec(self) -> ArmSpec:
        """Conventions of states and actions."""

    def reset(self, *, seed: int | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Carry out an action."""

    def play(self, rng: np.random.Generator) -> Iterator[NDArray[Any]]:
        """Yield actions without end."""


OpenEnv = Callable[[str, int], PlayedEnv]
"""Opens an environment by name and image size; it must be picklable, since workers receive it."""


@functools.lru_cache(maxsize=1)
def _opened(make: OpenEnv, name: str, image_size: int) -> PlayedEnv:
    """Return this process's environment."""
    return make(name, image_size)


def record_gym_episode(
    config: CollectConfig, write: WriteEpisode, make: OpenEnv, seed: int
) -> EpisodeSummary:
    """Play one episode and write it, until its end or the environment's own.

    States and actions of four numbers are written as poses without rotation. After an exception,
    the next episode begins in a new environment.

    Args:
        config: What to record.
        write: Writes the episode.
        make: Opens the environment.
        seed: Seed of the scene and of the play.

    Raises:
        TaskError: The environment ends after its first step.
    """
    env = _opened(make, config.environment, config.image_size)
    try:
        return _record(config, write, env, seed)
    except BaseException:
        _opened.cache_clear()
        raise


def _record(
    config: CollectConfig, write: WriteEpisode, env: PlayedEnv, seed: int
) -> EpisodeSummary:
    rng = np.random.default_rng(seed)
    seen, _ = env.reset(seed=seed)
    limits = np.array([env.arm_spec.max_step_m] * 3)
    actions, recording = env.play(rng), Recording()
    ended = False
    poses = getattr(env, "object_poses", list)  # an environment need not know its objects
    for step in range(config.length):
        last = ended or step + 1 == config.length
        state = as_pose(seen["state"])
        action, image = np.zeros(7), np.asarray(seen["image"], dtype=np.uint8)
        poses_M4 = np.asarray(poses(), dtype=np.float64)
        if not last:
            asked = np.asarray(next(actions), dtype=np.float32)
            action = as_pose(asked)
            action[:3] = np.clip(action[:3], -limits, limits)
            seen, _, terminated, truncated, _ = env.step(asked)
            ended = terminated or truncated
        action[6] = gripper_command(float(action[6]))
        recording.add(
            frames={"left": image},
            state=state,
            action=action,
            target=as_pose(seen["state"]),
            time_s=1.0 + env.arm_spec.period_s * step,
            object_m=poses_M4[0, :3] if len(poses_M4) else None,
            object_poses=poses_M4 if len(poses_M4) else None,
        )
        if last:
            break
    if len(recording.states) < 3:
        raise TaskError(f"environment={config.environment} ends after its first action")
    facts = {"kind": KIND, "seed": seed, "environment": config.environment}
    stamp = f"episode-{seed:08d}"
    write(Path(config.out), recording, success=False, task=KIND, stamp=stamp, metadata=facts)
    frames = len(recording.states)
    moved = _moves(recording.object_poses)
    return EpisodeSummary(kind=KIND, lifted=False, frames=frames, moved=moved, pushed=0)


def _moves(poses_TM4: list[NDArray[np.float64]]) -> int:
    """Return the number of steps that moved an object."""
    if not poses_TM4:
        return 0
    steps_TM = np.linalg.norm(np.diff(np.stack(poses_TM4)[..., :2], axis=0), axis=-1)
    return int((steps_TM > MOVED_M).any(axis=1).sum())
