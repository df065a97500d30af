"""Evaluate a planner and its baselines in simulation."""

from __future__ import annotations

import logging
import platform
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing import get_context
from tqdm import tqdm

import envs
from envs.arm_env import ArmEnv
from planning.agent import PlanningAgent
from planning.apps.policies import SIMULATED_BOX_M, open_policy
from planning.arm_options import DriveOptions
from planning.baselines import make_baseline
from planning.metrics import median_p95, wilson
from planning.options import DemoOptions, EvalOptions, SceneOptions
from planning.policy import Policy
from planning.protocols import Agent
from planning.report.page import beside_goals, gif_bytes, write_report
from planning.rollout import Episode, run_episode, seconds_per_action, time_shares
from worldmodel.models.world_model import WorldModel

log = logging.getLogger(__name__)

FIRST_SEED = 1_000_000
"""First seed of evaluation episodes, far above the seeds used in training."""
PLANNER = "planner"
BASELINES = ("hold", "random", "pose_only")

Job = tuple[str, int]
"""Agent name and episode index."""


def episode_seed(seed: int, index: int) -> int:
    """Return the environment seed of an episode."""
    return FIRST_SEED + 10_000 * seed + index


class EpisodeRunner:
    """Runs episodes in one environment; every worker process has one.

    Args:
        options: scene, seed and planner settings.
        policy: policy of the planner.

    Raises:
        PlanError: the policy does not match the environment's arm.
    """

    def __init__(self, options: EvalOptions, policy: Policy) -> None:
        scene = options.scene
        self.options = options
        self.env = envs.make(
            scene.task, split=scene.split, objects=scene.objects, image_size=max(policy.image_size)
        )
        policy.connect(self.env.arm_spec, SIMULATED_BOX_M)
        self.planner: Agent = PlanningAgent(policy)

    def __call__(self, job: Job) -> Episode:
        """Run one episode."""
        agent, index = job
        planned = agent == PLANNER
        limit_m = self.env.arm_spec.max_step_m
        return run_episode(
            self.env,
            self.planner if planned else make_baseline(agent, limit_m),
            task=self.options.scene.task,
            seed=episode_seed(self.options.seed, index),
            variant=self.options.sub_goals,
            keep_frames=self.options.pictures and planned,
        )


@dataclass
class _Worker:
    """State of a worker process, since a pool's `initializer` cannot return it."""

    runner: EpisodeRunner | None = None


_WORKER = _Worker()


def _start_worker(options: EvalOptions, model: WorldModel) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    _WORKER.runner = EpisodeRunner(options, open_policy(model, options.planner))


def _run_job(job: Job) -> Episode:
    if _WORKER.runner is None:
        raise RuntimeError("the worker process was not initialised")
    return _WORKER.runner(job)


Mapper = Callable[[list[Job]], Iterable[Episode]]


@contextmanager
def episode_mapper(options: EvalOptions) -> Iterator[Mapper]:
    """Load the model once and yield a function that runs episodes, serially or in worker processes.

    Worker processes share the memory of the model's weights.
    """
    policy = open_policy(options.model, options.planner, device=options.device)
    # check here, since a pool would restart failing workers
    policy.connect(ArmEnv.arm_spec, SIMULATED_BOX_M)
    workers = min(options.workers, options.episodes)
    if workers == 1:
        runner = EpisodeRunner(options, policy)
        yield lambda jobs: map(runner, jobs)
        return
    context = get_context("spawn")
    with context.Pool(workers, _start_worker, (options, policy.model)) as pool:
        yield lambda jobs: pool.imap(_run_job, jobs)


def run_episodes(mapper: Mapper, agent: str, episodes: int) -> tuple[list[Episode], bool]:
    """Run all episodes of one agent.

    Returns:
        The finished episodes, and whether Ctrl-C ended them early.
    """
    done: list[Episode] = []
    with tqdm(total=episodes, desc=agent, unit="episode") as bar:
        try:
            for episode in mapper([(agent, index) for index in range(episodes)]):
                done.append(episode)
                bar.update(1)
                bar.set_postfix(success=sum(e.success for e in done) / len(done))
        except KeyboardInterrupt:
            log.warning("Stopped by Ctrl-C: %d episodes of %s are finished.", len(done), agent)
            return done, True
    return done, False


def run_agents(
    options: EvalOptions, baselines: tuple[str, ...]
) -> tuple[dict[str, list[Episode]], bool]:
    """Run the planner and baselines; Ctrl-C keeps the finished episodes and skips the others.

    Returns:
        Episodes by agent, and whether Ctrl-C ended them early.
    """
    found: dict[str, list[Episode]] = {}
    with episode_mapper(options) as mapper:
        for agent in (PLANNER, *baselines):
            found[agent], interrupted = run_episodes(mapper, agent, options.episodes)
            if interrupted:
                return found, True
    return found, False


def _rates(episodes: list[Episode]) -> dict[str, Any]:
    successes = sum(e.success for e in episodes)
    return {
        "successes": successes,
        "episodes": len(episodes),
        "success_rate": successes / max(1, len(episodes)),
        "ci95": wilson(successes, len(episodes)),
        "final_error_m": median_p95([e.error_m for e in episodes]),
    }


def summarise(
    episodes: list[Episode],
    baselines: dict[str, list[Episode]],
    options: EvalOptions | DriveOptions,
    scene: SceneOptions,
) -> dict[str, Any]:
    """Return the figures of `summary.json`."""
    rates = _rates(episodes)
    return {
        "task": scene.task or "goals",
        **{name: rates[name] for name in ("episodes", "successes", "success_rate", "ci95")},
        "seconds_per_action": median_p95(seconds_per_action(episodes)),
        "final_error_m": rates["final_error_m"],
        "baselines": {name: _rates(rows) for name, rows in baselines.items()},
        "model": options.model,
        "seed": options.seed,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "mujoco", "gymnasium", "numpy")},
        },
        "split": scene.split,
        "objects": list(scene.objects),
        "sub_goals": options.sub_goals,
        "planner": options.planner.as_dict(),
        "time_shares": time_shares(episodes),
        "failures": dict(Counter(e.reason.split(" ended")[0] for e in episodes if e.reason)),
    }


def _evaluate(
    options: EvalOptions, baselines: tuple[str, ...]
) -> tuple[dict[str, Any], list[Episode]]:
    found, interrupted = run_agents(options, baselines)
    episodes = found.pop(PLANNER)
    summary = summarise(episodes, found, options, options.scene)
    return summary | {"interrupted": interrupted}, episodes


def evaluate(options: EvalOptions) -> tuple[dict[str, Any], Path]:
    """Run the planner and the baselines; return the summary and the report's path."""
    summary, episodes = _evaluate(options, BASELINES if options.baselines else ())
    title = f"{options.scene.task}: {summary['successes']} of {summary['episodes']} episodes"
    return summary, write_report(Path(options.out), title, summary, episodes)


def demonstrate(options: DemoOptions) -> tuple[dict[str, Any], Path]:
    """Run pick and place and one baseline; return the summary and the report's path."""
    settings = EvalOptions(
        scene=SceneOptions(task="pick_place"),
        model=options.model,
        episodes=options.episodes,
        seed=options.seed,
        planner=options.planner,
        workers=options.workers,
    )
    summary, episodes = _evaluate(settings, ("pose_only",))
    out = Path(options.out)
    page = write_report(out, "Pick and place by imagination", summary, episodes)
    frames = [frame for episode in episodes for frame in beside_goals(episode)]
    if frames:
        (out / "demo.gif").write_bytes(gif_bytes(frames))
    return summary, page
