"""Record simulated episodes with parallel workers; a rerun records only the missing ones."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from envs.arm_env import ArmEnv
from envs.config import CollectConfig
from envs.play import KINDS, POLICIES
from robot.pose import gripper_command
from robot.record import Recording


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


_ENV: dict[str, ArmEnv] = {}


def record_episode(config: CollectConfig, write: WriteEpisode, seed: int) -> dict[str, Any]:
    """Play one episode and write it.

    Args:
        config: What to record.
        write: Writes the episode.
        seed: Seed of the scene and of the policy.

    Returns:
        Policy `kind`, whether the object was `lifted`, and the number of `frames`.
    """
    stamp = f"episode-{seed:08d}"
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    if "env" not in _ENV:
        _ENV["env"] = ArmEnv(
            "pick_place",
            image_size=config.image_size,
            split=config.split,
            fidelity=config.fidelity,
            objects=config.objects,
            cameras=config.cameras,
        )
    env = _ENV["env"]
    env.reset(seed=seed)
    actions = POLICIES[kind](env, rng)
    recording, lifted = Recording(), False
    for step in range(config.length):
        last = step + 1 == config.length
        action = np.zeros(7, np.float32) if last else next(actions)
        frames = {str(name): env.renderer.render(env.data, name) for name in config.cameras}
        state, object_m = env.arm.state(), env.object_m
        lifted |= bool(object_m[2] > env.half_height_m() + 0.03)
        target = env.arm.commanded if last else env.arm.send(action).target
        sent = np.array([*action[:6], gripper_command(float(action[6]))])
        recording.add(
            frames=frames,
            state=state.state,
            joints=state.q,
            action=sent,
            target=target,
            time_s=1.0 + env.arm_spec.period_s * step,
            object_m=object_m,
        )
    facts = {"kind": kind, "object": env.shape, "seed": seed, "split": config.split}
    write(Path(config.out), recording, success=lifted, task=kind, stamp=stamp, metadata=facts)
    return {"kind": kind, "lifted": lifted, "frames": config.length}


def _start_worker() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"


def _job(task: tuple[CollectConfig, WriteEpisode, int]) -> dict[str, Any]:
    return record_episode(*task)


def collect(config: CollectConfig, write: WriteEpisode) -> dict[str, Any]:
    """Record the episodes that are missing; Ctrl-C keeps the finished ones.

    Args:
        config: What to record.
        write: Writes each episode, in the worker that recorded it.

    Returns:
        Numbers of episodes and frames, speed, and counts of the policies.
    """
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    recorded = {int(p.name.split("-")[1]) for p in out.glob("*/*/*/episode-*")}
    seeds = range(config.seed, config.seed + config.episodes)
    pending = [(config, write, seed) for seed in seeds if seed not in recorded]
    kind_counts: Counter[str] = Counter()
    lifted = frames = 0
    started = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with context.Pool(config.workers, initializer=_start_worker) as pool:
        try:
            jobs = pool.imap_unordered(_job, pending, chunksize=2)
            for row in tqdm(jobs, total=len(pending), unit="episode"):
                kind_counts[row["kind"]] += 1
                lifted += row["lifted"]
                frames += row["frames"]
        except KeyboardInterrupt:
            pool.terminate()
    seconds = time.perf_counter() - started
    return {
        "episodes": sum(kind_counts.values()),
        "already_there": len(set(seeds) & recorded),
        "frames": frames,
        "seconds": seconds,
        "frames_per_s": frames / seconds,
        "kinds": dict(kind_counts),
        "lifted": lifted,
        "seed": config.seed,
        "split": config.split,
    }
