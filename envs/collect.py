"""Record simulated episodes with parallel workers; a rerun records only the missing ones."""

from __future__ import annotations

import functools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from envs.arm_env import ArmEnv
from envs.collect_failures import ERRORS, FailedEpisode, failed_by, is_of_disk, log_failure
from envs.config import CollectConfig
from envs.contact_play import MIXES, RandomSkill, contact_actions
from envs.layout import Clutter
from envs.play import KINDS
from robot.pose import gripper_command
from robot.record import Recording

MOVED_M, LIFTED_M = 0.005, 0.03
"""A step that moves an object by more than the first, and a lift above the second, count [m]."""


class WriteEpisode(Protocol):
    """Writes a recorded episode; it must be a picklable function, since workers receive it."""

    def __call__(
        self,
        root: Path,
        recording: Recording,
        *,
        success: bool,
        task: str,
        stamp: str,
        metadata: Mapping[str, object],
    ) -> Path:
        """Write the episode under `root` and return its folder."""


@dataclass(frozen=True, kw_only=True)
class EpisodeSummary:
    """Figures of a recorded episode."""

    kind: str
    """Policy."""
    lifted: bool
    """Whether an object was lifted by 3 cm at some time."""
    frames: int
    """Number of control steps."""
    moved: int
    """Number of steps that moved an object by more than 5 mm."""
    pushed: int
    """Number of those in which it stayed on the table."""


Record = Callable[[int], EpisodeSummary]
"""Records the episode of a seed; it must be picklable, since workers receive it."""
Job = tuple[Record, int]
Result = EpisodeSummary | FailedEpisode


class RunJobs(Protocol):
    """Runs jobs in worker processes."""

    def __call__(
        self,
        function: Callable[[Job], Result],
        jobs: list[Job],
        workers: int,
        lost: Callable[[Job, str], Result] | None = None,
    ) -> AbstractContextManager[Iterator[Result]]:
        """Return a context manager that yields the results as the jobs complete.

        `lost` returns the result of a job that ended its worker processes.
        """


@functools.lru_cache(maxsize=1)
def _open_env(config: CollectConfig) -> ArmEnv:
    """Return this process's environment for a configuration."""
    return ArmEnv(
        config.task,
        image_size=config.image_size,
        split=config.split,
        fidelity=config.fidelity,
        objects=config.objects,
        cameras=config.cameras,
        embodiment=config.embodiment,
        clutter=Clutter(
            objects_per_scene=config.objects_per_scene, walls=config.walls, turned=config.turned
        ),
    )


def record_episode(
    config: CollectConfig, write: WriteEpisode, skill: RandomSkill, seed: int
) -> EpisodeSummary:
    """Play one episode and write it.

    Args:
        config: What to record.
        write: Writes the episode.
        skill: Draws random skills for the mix `contact`.
        seed: Seed of the scene and of the policy.
    """
    stamp = f"episode-{seed:08d}"
    rng = np.random.default_rng(seed)
    kinds = MIXES.get(config.mix, KINDS)
    kind = str(rng.choice(list(kinds), p=list(kinds.values())))
    env = _open_env(config)
    env.reset(seed=seed)
    actions = contact_actions(kind, env, skill, rng, config.length - 1)
    recording = Recording()
    for step in range(config.length):
        last = step + 1 == config.length
        action = np.zeros(7, np.float32) if last else next(actions)
        frames = {str(name): env.renderer.render(env.data, name) for name in config.cameras}
        state, poses_M4 = env.arm.state(), np.stack([item.label for item in env.items])
        target = env.arm.commanded if last else env.arm.send(action).target
        sent = np.array([*action[:6], gripper_command(float(action[6]))])
        recording.add(
            frames=frames,
            state=state.state,
            joints=state.q,
            action=sent,
            target=target,
            time_s=1.0 + env.arm_spec.period_s * step,
            object_m=poses_M4[0, :3],
            object_poses=poses_M4,
        )
    summary = _summarise(env, kind, np.stack(recording.object_poses))
    facts = {"kind": kind, "seed": seed, "split": config.split, **_describe(env)}
    out = Path(config.out)
    write(out, recording, success=summary.lifted, task=kind, stamp=stamp, metadata=facts)
    return summary


def _summarise(env: ArmEnv, kind: str, poses_TM4: NDArray[np.float64]) -> EpisodeSummary:
    heights_M = np.array([item.half_height_m for item in env.items])
    steps_TM = np.linalg.norm(np.diff(poses_TM4[..., :2], axis=0), axis=-1)
    moved_TM = steps_TM > MOVED_M
    low_TM = poses_TM4[1:, :, 2] < heights_M + 0.01
    return EpisodeSummary(
        kind=kind,
        lifted=bool((poses_TM4[..., 2] > heights_M + LIFTED_M).any()),
        frames=len(poses_TM4),
        moved=int(moved_TM.any(axis=1).sum()),
        pushed=int((moved_TM & low_TM).any(axis=1).sum()),
    )


def _describe(env: ArmEnv) -> dict[str, object]:
    """Return the scene's shapes, scales and wall, for the metadata."""
    wall = env.layout.wall
    return {
        "object": env.items[0].shape_name,
        "objects": [item.shape_name for item in env.items],
        "scales": [item.scale for item in env.items],
        "embodiment": env.embodiment.name,
        "wall": None if wall is None else asdict(wall),
    }


def _job(task: Job) -> Result:
    """Record an episode; an environment may be the user's, whose code can raise anything."""
    os.environ["OMP_NUM_THREADS"] = "1"
    record, seed = task
    try:
        return record(seed)
    except (Exception, SystemExit) as error:
        if is_of_disk(error):  # which every further episode would meet
            raise
        _open_env.cache_clear()  # the next episode begins in a new environment
        return failed_by(error, seed)


def _lost(task: Job, how: str) -> Result:
    """Return the result of an episode that ended its worker processes."""
    reason = f"its worker processes ended: {how}"
    return FailedEpisode(seed=task[1], reason=reason, traceback="")


def _here(
    function: Callable[[Job], Result], jobs: list[Job], _: int, __: object = None
) -> AbstractContextManager[Iterator[Result]]:
    return nullcontext(map(function, jobs))


def collect(
    config: CollectConfig,
    write: WriteEpisode,
    skill: RandomSkill,
    run_jobs: RunJobs | None = None,
    record: Record | None = None,
) -> dict[str, Any]:
    """Record the episodes that are missing; a signal keeps the finished ones.

    An episode that an exception ends is left out, and its traceback is in `errors.log`.

    Args:
        config: What to record.
        write: Writes each episode, in the worker that recorded it.
        skill: Draws random skills for the mix `contact`, in the worker.
        run_jobs: Runs the episodes in `config.workers` processes; None runs them in this one.
        record: Records an episode of another environment; None records the table's scene.

    Returns:
        Numbers of episodes and frames, speed, for each policy its episodes and the shares of its
        steps that moved an object, seed and reason of each that `failed`, and whether a signal
        `interrupted` the recording.
    """
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / ERRORS).unlink(missing_ok=True)
    recorded = {int(p.name.split("-")[1]) for p in out.glob("*/*/*/episode-*")}
    seeds = range(config.seed, config.seed + config.episodes)
    record = record or functools.partial(record_episode, config, write, skill)
    pending = [(record, seed) for seed in seeds if seed not in recorded]
    rows: list[EpisodeSummary] = []
    failed: list[dict[str, object]] = []
    interrupted = False
    started = time.perf_counter()
    try:
        with (run_jobs or _here)(_job, pending, config.workers, _lost) as results:
            for row in tqdm(results, total=len(pending), unit="episode"):
                if isinstance(row, EpisodeSummary):
                    rows.append(row)
                    continue
                log_failure(out, row)
                failed.append({"seed": row.seed, "reason": row.reason})
    except KeyboardInterrupt:
        interrupted = True
    seconds = time.perf_counter() - started
    frames = sum(row.frames for row in rows)
    return {
        "episodes": len(rows),
        "already_there": len(set(seeds) & recorded),
        "frames": frames,
        "seconds": seconds,
        "frames_per_s": frames / seconds,
        "kinds": dict(Counter(row.kind for row in rows)),
        "lifted": sum(row.lifted for row in rows),
        "moving_steps": _moving_shares(rows),
        "seed": config.seed,
        "split": config.split,
        "failed": failed,
        "interrupted": interrupted,
    }


def _moving_shares(rows: list[EpisodeSummary]) -> dict[str, dict[str, float]]:
    """Return for each policy, and for all, the shares of steps that moved or pushed an object."""
    shares: dict[str, dict[str, float]] = {}
    for kind in (*sorted({row.kind for row in rows}), "all"):
        chosen = [row for row in rows if kind in (row.kind, "all")]
        steps = max(1, sum(row.frames - 1 for row in chosen))
        shares[kind] = {
            "moved": sum(row.moved for row in chosen) / steps,
            "pushed": sum(row.pushed for row in chosen) / steps,
        }
    return shares
