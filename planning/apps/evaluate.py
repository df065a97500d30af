"""Evaluate a planner and its baselines in simulation."""

from __future__ import annotations

import logging
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import envs
from envs.arm_env import ArmEnv
from envs.tasks import TASKS
from planning.apps.policies import (
    SIMULATED_BOX_M,
    make_planning_agent,
    make_skill_agent,
    open_policy,
)
from planning.arm_options import DriveOptions
from planning.baselines import make_baseline
from planning.metrics import median_p95, wilson
from planning.options import DemoOptions, EvalOptions, SceneOptions
from planning.policy import Policy
from planning.protocols import Agent
from planning.report.page import beside_goals, gif_bytes, write_report
from planning.rollout import Episode, run_episode, seconds_per_action, time_shares
from worldmodel.atomic_io import write_bytes
from worldmodel.checkpoints.loading import load_world_model
from worldmodel.models.world_model import WorldModel
from worldmodel.processes import WorkerPool
from worldmodel.shutdown import name_of

log = logging.getLogger(__name__)

FIRST_SEED = 1_000_000
"""First seed of evaluation episodes, far above the seeds used in training."""
PLANNER = "planner"
BASELINES = ("hold", "random", "pose_only")
SKILL_BASELINES = ("geometry", "geometry_yaw", "copy")
"""Baselines of a planner with skills: pick-and-place aimed from decoded positions (and yaws), and
the same search with a model that predicts no change."""

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

    def __init__(self, options: EvalOptions, policy: Policy, world: WorldModel) -> None:
        scene = options.scene
        self.options, self.policy, self.world = options, policy, world
        self.env = envs.make(
            scene.task, split=scene.split, objects=scene.objects, image_size=max(policy.image_size)
        )
        policy.connect(self.env.arm_spec, SIMULATED_BOX_M)

    def _agent(self, name: str) -> Agent:
        planner = self.options.resolved_planner()
        spec = self.env.arm_spec
        if name == PLANNER:
            return make_planning_agent(self.policy, self.world, planner, spec)
        if name in SKILL_BASELINES:
            return make_skill_agent(name, self.policy, self.world, planner.skill_search, spec)
        return make_baseline(name, spec.max_step_m)

    def __call__(self, job: Job) -> Episode:
        """Run one episode."""
        agent, index = job
        planned = agent == PLANNER
        return run_episode(
            self.env,
            self._agent(agent),
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
    _WORKER.runner = EpisodeRunner(options, open_policy(model, options.planner), model)


def _run_job(job: Job) -> Episode:
    if _WORKER.runner is None:
        raise RuntimeError("the worker process was not initialised")
    return _WORKER.runner(job)


Mapper = Callable[[list[Job]], Iterable[Episode]]


@contextmanager
def episode_mapper(options: EvalOptions, world: WorldModel) -> Iterator[Mapper]:
    """Yield a function that runs episodes, serially or in worker processes.

    The function yields episodes as they end. Worker processes share the memory of the weights.
    """
    policy = open_policy(world, options.planner)
    # check here, since a pool would restart failing workers
    policy.connect(ArmEnv.arm_spec, SIMULATED_BOX_M)
    workers = min(options.workers, options.episodes)
    if workers == 1:
        runner = EpisodeRunner(options, policy, world)
        yield lambda jobs: map(runner, jobs)
        return
    start = (options, world)
    with WorkerPool(_run_job, workers, method="spawn", start=_start_worker, args=start) as pool:
        yield lambda jobs: (episode for _, episode in pool.unordered(jobs))


def run_episodes(mapper: Mapper, agent: str, episodes: int) -> tuple[list[Episode], bool]:
    """Run all episodes of one agent.

    Returns:
        The finished episodes in the order of their seeds, and whether a signal ended them early.
    """
    done: list[Episode] = []
    interrupted = False
    with tqdm(total=episodes, desc=agent, unit="episode") as bar:
        try:
            for episode in mapper([(agent, index) for index in range(episodes)]):
                done.append(episode)
                bar.update(1)
                bar.set_postfix(success=sum(e.success for e in done) / len(done))
        except KeyboardInterrupt as error:
            name = name_of(error)
            log.warning("Stopped by %s: %d episodes of %s are finished.", name, len(done), agent)
            interrupted = True
    return sorted(done, key=lambda episode: episode.seed), interrupted


def run_agents(
    options: EvalOptions, world: WorldModel, baselines: tuple[str, ...]
) -> tuple[dict[str, list[Episode]], bool]:
    """Run the planner and baselines; a signal keeps the finished episodes and skips the others.

    Returns:
        Episodes by agent, and whether a signal ended them early.
    """
    found: dict[str, list[Episode]] = {}
    with episode_mapper(options, world) as mapper:
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
        "objects": list(scene.objects or TASKS[scene.task or "reach"].objects),
        "sub_goals": options.sub_goals,
        "planner": options.planner.as_dict(),
        "time_shares": time_shares(episodes),
        "failures": dict(Counter(e.reason.split(" ended")[0] for e in episodes if e.reason)),
    }


def decision_figures(episodes: list[Episode]) -> dict[str, Any]:
    """Return the time of decisions about skills, its shares, and what was decided."""
    decisions = [decision for episode in episodes for decision in episode.decisions]
    planned = [decision for decision in decisions if decision.chosen is not None]
    totals: Counter[str] = Counter()
    for decision in planned:
        totals.update(decision.seconds)
    whole = sum(totals.values()) or 1.0
    return {
        "seconds_per_decision": median_p95([sum(d.seconds.values()) for d in planned]),
        "decision_shares": {name: value / whole for name, value in totals.items()},
        "decisions": dict(
            Counter("+".join(d.chosen.skills) if d.chosen else d.why for d in decisions)
        ),
    }


def baselines_of(options: EvalOptions, world: WorldModel) -> tuple[str, ...]:
    """Return the baselines that apply to the planner's method and model."""
    if not options.baselines:
        return ()
    if options.resolved_planner().method != "skills":
        return BASELINES
    if world.object_head is None:
        log.warning(
            "The model has no object head: the baselines geometry and geometry_yaw are left out."
        )
        return (*BASELINES, "copy")
    return (*BASELINES, *SKILL_BASELINES)


def _evaluate(
    options: EvalOptions, world: WorldModel, baselines: tuple[str, ...]
) -> tuple[dict[str, Any], list[Episode]]:
    found, interrupted = run_agents(options, world, baselines)
    episodes = found.pop(PLANNER)
    summary = summarise(episodes, found, options, options.scene)
    planner = options.resolved_planner()
    summary["planner"] = planner.as_dict()
    if planner.method == "skills":
        summary |= decision_figures(episodes)
        write_imagined(Path(options.out), episodes)
    return summary | {"interrupted": interrupted}, episodes


def write_imagined(out: Path, episodes: list[Episode]) -> None:
    """Write the imagined tokens of each episode to `imagined/SEED.npz`.

    `step_D` holds the step of each decision that was imagined, and `z_DNC` the tokens at the end
    of the chosen skills in float16.
    """
    folder = out / "imagined"
    for episode in episodes:
        shown = [d for d in episode.decisions if d.imagined_ND is not None]
        if not shown:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        tokens = np.stack([d.imagined_ND for d in shown if d.imagined_ND is not None])
        steps = np.array([d.step for d in shown])
        np.savez_compressed(folder / f"{episode.seed}.npz", step_D=steps, z_DNC=tokens)


def evaluate(options: EvalOptions) -> tuple[dict[str, Any], Path]:
    """Run the planner and the baselines; return the summary and the report's path."""
    world = load_world_model(options.model, options.device)
    summary, episodes = _evaluate(options, world, baselines_of(options, world))
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
    world = load_world_model(settings.model, settings.device)
    summary, episodes = _evaluate(settings, world, ("pose_only",))
    out = Path(options.out)
    page = write_report(out, "Pick and place by imagination", summary, episodes)
    frames = [frame for episode in episodes for frame in beside_goals(episode)]
    if frames:
        write_bytes(out / "demo.gif", gif_bytes(frames))
    return summary, page
