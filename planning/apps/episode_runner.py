"""Run episodes of an evaluation, in this process or in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import torch

from envs.arm_env import ArmEnv
from envs.config import CAMERA_NAMES
from envs.goals import MAIN_CAMERA
from planning.apps.environments import GoalEnvironment, open_environment
from planning.apps.policies import (
    make_planning_agent,
    make_skill_agent,
    open_policy,
    require_one_view,
)
from planning.apps.tasks import make_scene
from planning.apps.workspace import SIMULATED_BOX_M
from planning.baselines import make_baseline
from planning.errors import PlanError
from planning.options import EvalOptions
from planning.policy import Policy
from planning.protocols import Agent, Box
from planning.rollout import Episode, episode_seed, fail_by, run_episode
from worldmodel.checkpoints.io import copy_on_cpu
from worldmodel.checkpoints.loading import place
from worldmodel.models.world_model import WorldModel
from worldmodel.processes import WorkerLostError, WorkerPool
from worldmodel.shutdown import follows_a_signal

PLANNER = "planner"
SKILL_BASELINES = ("geometry", "geometry_yaw", "copy")
"""Baselines of a planner with skills: pick-and-place aimed from decoded positions (and yaws), and
the same search with a model that predicts no change."""

Job = tuple[str, int]
"""Agent name and episode index."""


class EpisodeRunner:
    """Runs episodes in one environment; every worker process has one.

    Args:
        options: Scene, seed and planner settings.
        policy: Policy of the planner.
        world: The policy's world model.

    Raises:
        PlanError: The policy does not match the environment's arm.
    """

    def __init__(self, options: EvalOptions, policy: Policy, world: WorldModel) -> None:
        self.options, self.policy, self.world = options, policy, world
        self.env = self._open()
        self._broken = False

    def _open(self) -> GoalEnvironment | ArmEnv:
        """Return a new environment."""
        size = max(self.policy.image_size)
        if self.options.environment:
            env = open_environment(self.options.environment, size)
            self.policy.connect(env.arm_spec, env.box_m)
            return env
        table = make_scene(
            self.options.scene,
            size,
            cameras=_scene_cameras(self.policy),
            goal_cameras=_goal_cameras(self.options, self.policy),
        )
        self.policy.connect(table.arm_spec, table.box_m)
        return table

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
        """Run one episode; an exception in it makes it a failure, and a new environment follows.

        Environment, task, policy and planner may be the user's, whose code can raise anything.
        """
        agent, index = job
        planned = agent == PLANNER
        episode = _episode(self.options, index)
        try:
            self._replace_broken()
            run_episode(
                self.env,
                self._agent(agent),
                task=episode.task,
                seed=episode.seed,
                variant=self.options.sub_goals,
                keep_frames=self.options.pictures and planned,
                episode=episode,
            )
            if isinstance(self.env, ArmEnv):
                episode.camera_34 = self.env.camera_matrix()
        except (Exception, SystemExit) as error:  # a user's code can raise anything
            if follows_a_signal(error):  # a library raised it in place of the signal's exception
                raise KeyboardInterrupt("a signal") from error
            fail_by(episode, error)
            self._discard()
        return episode

    def _replace_broken(self) -> None:
        """Open a new environment if an exception was raised in the last one."""
        if self._broken:
            self.env = self._open()
            self._broken = False

    def _discard(self) -> None:
        """Close an environment in which an exception was raised."""
        if not self._broken:
            self._broken = True
            with suppress(Exception, SystemExit):
                self.env.close()


def _scene_cameras(policy: Policy) -> tuple[str, ...]:
    """Return the cameras of the table's scene that a policy sees.

    Raises:
        PlanError: The model sees several cameras, and the scene lacks one.
    """
    if len(policy.views) == 1:
        return MAIN_CAMERA  # `Policy.connect` compares it with the model's
    unknown = [name for name in policy.views if name not in CAMERA_NAMES]
    if unknown:
        raise PlanError(
            f"The model sees the camera {', '.join(unknown)}, which the scene does not have. It "
            f"has: {', '.join(CAMERA_NAMES)}"
        )
    return policy.views


def _goal_cameras(options: EvalOptions, policy: Policy) -> tuple[str, ...]:
    """Return the cameras of the goal images.

    Raises:
        PlanError: `energy_views` are not the first views of the model.
    """
    views = options.energy_views
    if views != policy.views[: len(views)]:
        raise PlanError(
            f"energy_views={','.join(views)}, and the model sees {', '.join(policy.views)}. Give "
            "the first of these, in any number"
        )
    return views if len(views) > 1 else MAIN_CAMERA


def _episode(options: EvalOptions, index: int) -> Episode:
    """Return the empty record of an episode."""
    return Episode(options.task_name, episode_seed(options.seed, index))


def _lost(options: EvalOptions, job: Job, how: str) -> Episode:
    """Return the record of an episode that ended its worker processes."""
    episode = _episode(options, job[1])
    fail_by(episode, WorkerLostError(f"its worker processes ended: {how}"))
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
    # checked here, since a pool would restart failing workers, and since options that do not fit
    # are not failures of an episode
    spec = ArmEnv.arm_spec
    box_m: Box | None = SIMULATED_BOX_M
    if options.environment:
        require_one_view(world, "environment= renders one image")
        with closing(open_environment(options.environment, max(policy.image_size))) as env:
            spec, box_m = env.arm_spec, env.box_m
    else:
        _scene_cameras(policy)
        _goal_cameras(options, policy)
    policy.connect(spec, box_m)
    make_planning_agent(policy, world, options.resolved_planner(), spec, options.precision)
    workers = min(options.workers, options.episodes)
    if workers == 1:
        runner = EpisodeRunner(options, policy, world)
        yield lambda jobs: map(runner, jobs)
        return
    device = world.encoder.device
    start = (options, copy_on_cpu(world) if device.type == "cuda" else world, device)
    with WorkerPool(_run_job, workers, method="spawn", start=_start_worker, args=start) as pool:
        lost = partial(_lost, options)
        yield lambda jobs: (episode for _, episode in pool.unordered(jobs, lost))
