"""Evaluate a planner and its baselines in simulation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import envs
from envs.arm_env import ArmEnv
from planning.apps.environments import open_environment
from planning.apps.eval_summary import decision_figures, summarise, write_imagined
from planning.apps.imagined import add_imagined
from planning.apps.policies import make_planning_agent, make_skill_agent, open_policy
from planning.apps.tasks import find_task
from planning.apps.workspace import SIMULATED_BOX_M
from planning.baselines import make_baseline
from planning.options import EvalOptions
from planning.policy import Policy
from planning.protocols import Agent
from planning.report.page import write_report
from planning.rollout import Episode, episode_seed, run_episode
from worldmodel.checkpoints.io import copy_on_cpu
from worldmodel.checkpoints.loading import load_world_model, place
from worldmodel.models.world_model import WorldModel
from worldmodel.processes import WorkerPool
from worldmodel.shutdown import name_of

log = logging.getLogger(__name__)

PLANNER = "planner"
BASELINES = ("hold", "random", "pose_only")
SKILL_BASELINES = ("geometry", "geometry_yaw", "copy")
"""Baselines of a planner with skills: pick-and-place aimed from decoded positions (and yaws), and
the same search with a model that predicts no change."""

Job = tuple[str, int]
"""Agent name and episode index."""


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
        size = max(policy.image_size)
        self.table: ArmEnv | None = None
        if options.environment:
            self.env = open_environment(options.environment, size)
        else:
            self.table = envs.make(
                find_task(scene.task),
                split=scene.split,
                objects=scene.objects,
                factor=scene.factor,
                embodiment=scene.embodiment,
                image_size=size,
            )
            self.env = self.table
        policy.connect(self.env.arm_spec, self.env.box_m)

    def _agent(self, name: str) -> Agent:
        planner = self.options.resolved_planner()
        spec, precision = self.env.arm_spec, self.options.precision
        if name == PLANNER:
            return make_planning_agent(self.policy, self.world, planner, spec, precision)
        if name in SKILL_BASELINES:
            search = planner.skill_search
            return make_skill_agent(name, self.policy, self.world, search, spec, precision)
        return make_baseline(name, spec.max_step_m, spec.action_dim)

    def __call__(self, job: Job) -> Episode:
        """Run one episode."""
        agent, index = job
        planned = agent == PLANNER
        episode = run_episode(
            self.env,
            self._agent(agent),
            task=self.options.task_name,
            seed=episode_seed(self.options.seed, index),
            variant=self.options.sub_goals,
            keep_frames=self.options.pictures and planned,
        )
        episode.camera_34 = self.table.camera_matrix() if self.table else None
        return episode


@dataclass
class _Worker:
    """State of a worker process, since a pool's `initializer` cannot return it."""

    runner: EpisodeRunner | None = None


_WORKER = _Worker()


def _start_worker(options: EvalOptions, model: WorldModel, device: torch.device) -> None:
    torch.set_num_threads(1)
    if device.type == "cuda":
        model = place(model, device, options.precision)
    _WORKER.runner = EpisodeRunner(
        options, open_policy(model, options.planner, axes=options.axes), model
    )


def _run_job(job: Job) -> Episode:
    if _WORKER.runner is None:
        raise RuntimeError("the worker process was not initialised")
    return _WORKER.runner(job)


Mapper = Callable[[list[Job]], Iterable[Episode]]


@contextmanager
def episode_mapper(options: EvalOptions, world: WorldModel) -> Iterator[Mapper]:
    """Yield a function that runs episodes, serially or in worker processes.

    The function yields episodes as they end. Worker processes share the memory of the weights; on
    CUDA, each has its own copy.
    """
    policy = open_policy(world, options.planner, axes=options.axes)
    # check here, since a pool would restart failing workers
    if options.environment:
        with closing(open_environment(options.environment, max(policy.image_size))) as env:
            policy.connect(env.arm_spec, env.box_m)
    else:
        policy.connect(ArmEnv.arm_spec, SIMULATED_BOX_M)
    workers = min(options.workers, options.episodes)
    if workers == 1:
        runner = EpisodeRunner(options, policy, world)
        yield lambda jobs: map(runner, jobs)
        return
    device = world.encoder.device
    start = (options, copy_on_cpu(world) if device.type == "cuda" else world, device)
    with WorkerPool(_run_job, workers, method="spawn", start=_start_worker, args=start) as pool:
        yield lambda jobs: (episode for _, episode in pool.unordered(jobs))


def run_episodes(
    mapper: Mapper,
    agent: str,
    indices: Sequence[int],
    keep: Callable[[Episode], None] = lambda _: None,
) -> tuple[list[Episode], bool]:
    """Run episodes of one agent.

    Args:
        mapper: function that runs episodes.
        agent: name of the agent.
        indices: indices of the episodes.
        keep: called with each episode as soon as it ends.

    Returns:
        The finished episodes in the order of their seeds, and whether a signal ended them early.
    """
    done: list[Episode] = []
    interrupted = False
    with tqdm(total=len(indices), desc=agent, unit="episode") as bar:
        try:
            for episode in mapper([(agent, index) for index in indices]):
                done.append(episode)
                keep(episode)
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
            found[agent], interrupted = run_episodes(mapper, agent, range(options.episodes))
            if interrupted:
                return found, True
    return found, False


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


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation."""

    summary: dict[str, Any]
    """Values of `summary.json`."""
    episodes: list[Episode]
    """Episodes of the planner."""
    others: dict[str, list[Episode]]
    """Episodes of each baseline."""


def evaluate_agents(
    options: EvalOptions, world: WorldModel, baselines: tuple[str, ...]
) -> Evaluation:
    """Run the planner and baselines, and add pictures of what the planner imagined."""
    found, interrupted = run_agents(options, world, baselines)
    return describe(options, world, found, interrupted=interrupted)


def describe(
    options: EvalOptions, world: WorldModel, found: dict[str, list[Episode]], *, interrupted: bool
) -> Evaluation:
    """Summarise the episodes of all agents, and add pictures of what the planner imagined."""
    episodes = found.pop(PLANNER)
    summary = summarise(episodes, found, options, options.scene)
    planner = options.resolved_planner()
    summary["planner"] = planner.as_dict()
    if planner.method == "skills":
        summary |= decision_figures(episodes)
        write_imagined(Path(options.out), episodes)
        add_imagined(episodes, options.model, world)
    return Evaluation(summary | {"interrupted": interrupted}, episodes, found)


def evaluate(options: EvalOptions) -> tuple[dict[str, Any], Path]:
    """Run the planner and the baselines; return the summary and the report's path."""
    options = options.resolved()
    world = load_world_model(options.model, options.device, options.precision)
    return report(options, evaluate_agents(options, world, baselines_of(options, world)))


def report(options: EvalOptions, found: Evaluation) -> tuple[dict[str, Any], Path]:
    """Write the files of an evaluation; return the summary and the report's path."""
    summary = found.summary
    title = f"{options.task_name}: {summary['successes']} of {summary['episodes']} episodes"
    page = write_report(Path(options.out), title, summary, found.episodes, found.others)
    return summary, page
