"""Build policies from model names and planner options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from planning.agent import PlanningAgent
from planning.apps.own_encoder import open_world
from planning.errors import PlanError
from planning.hierarchy import HierarchyConfig
from planning.options import Device, Precision
from planning.planner import PlannerConfig
from planning.planner_options import GoalPlannerOptions, PlannerOptions
from planning.policy import Policy
from planning.protocols import Agent
from planning.skill_options import SkillEnergy, SkillOptions
from planning.skills.agent import Fingertips, SkillAgent
from planning.skills.choosers import Chooser, CopyModel, GeometryChooser, SearchChooser
from planning.skills.imagination import Imagination
from planning.skills.search import SkillSearch
from planning.solvers.registry import make_optimiser
from planning.states import POSE_DIM
from robot.arm import ArmSpec
from robot.calibrate import Axes
from robot.pose import flange_to_tcp
from worldmodel.models.world_model import WorldModel

SMALL_FLOP = 1e12
"""Arithmetic of an iteration below which launches dominate on a GPU; at 500 TFLOP/s, which is an
estimate, it takes 2 ms."""


def samples_at_once(world: WorldModel, options: PlannerOptions) -> int:
    """Return the number of plans that fit into `memory_gb`, at least 1."""
    steps, itemsize = max(options.horizon, options.stretch), world.dynamics.dtype.itemsize
    each = world.bytes_per_sample(steps, itemsize)
    return max(1, int(options.memory_gb * 1e9 / each))


def check_steps(world: WorldModel, options: PlannerOptions) -> None:
    """Check that the longest plan fits into the frames that the model's predictor takes.

    The planner compares a plan with the same plan after a gripper action, one step more.

    Raises:
        PlanError: `horizon` or `stretch` is too large for this model.
    """
    frames = world.predictor.config.num_frames
    allowed = frames - options.history
    for name, steps in (("horizon", options.horizon), ("stretch", options.stretch)):
        if steps > allowed:
            raise PlanError(
                f"{name} is {steps}; allowed: 1 to {allowed} with this model, whose predictor "
                f"takes {frames} frames, of which history={options.history} are seen."
            )


def planner_config(
    options: PlannerOptions,
    *,
    chunk: int = 1024,
    device: str = "cpu",
    gripper_free: bool = True,
    together: bool = False,
) -> PlannerConfig:
    """Return the planner configuration for the given options.

    Args:
        options: Search settings.
        chunk: Number of plans evaluated at once; see `samples_at_once`.
        device: Device of the model.
        gripper_free: Whether to plan the gripper.
        together: Whether to run all searches of an action at once; see `launches_dominate`.
    """
    levels = None
    if isinstance(options, GoalPlannerOptions) and options.macro_search.is_used:
        levels = hierarchy_config(options, chunk)
    return PlannerConfig(
        optimiser=make_optimiser(
            options.optimiser,
            samples=options.samples,
            iterations=options.iterations,
            elites=options.num_elites,
            min_spread_m=options.min_spread_m,
            device=device,
        ),
        horizon=options.horizon,
        stretch=options.stretch,
        approach_slope=options.approach_slope,
        gate_m=options.gate_m,
        norm=options.norm,
        over=options.over,
        history=options.history,
        warm_start=options.warm_start,
        deadline_s=options.deadline_s or None,
        chunk=chunk,
        gripper_free=gripper_free,
        together=together,
        hierarchy=levels,
    )


def hierarchy_config(options: GoalPlannerOptions, chunk: int) -> HierarchyConfig:
    """Return the configuration of a search on two levels."""
    macro = options.macro_search
    return HierarchyConfig(
        macro_steps=macro.macro_steps,
        macro_samples=macro.macro_samples,
        macro_iterations=macro.macro_iterations,
        macro_execute=macro.macro_execute,
        samples=options.samples,
        iterations=options.iterations,
        num_elites=options.num_elites,
        chunk=chunk,
    )


def launches_dominate(world: WorldModel, options: PlannerOptions) -> bool:
    """Return whether a search on the model's device waits for launches more than for arithmetic.

    Then the searches of an action take no longer together than one of them does. Searches that end
    by their own spread run by themselves, since a batch would end them together.
    """
    if next(world.parameters()).device.type != "cuda" or options.optimiser != "cem":
        return False
    if options.min_spread_m:
        return False
    tokens = world.predictor.config.num_tokens
    weights = sum(p.numel() for p in world.predictor.parameters())
    steps = max(options.stretch, options.horizon) * (options.stretch + 1)
    return 2 * weights * tokens * options.samples * steps < SMALL_FLOP


def require_one_view(world: WorldModel, what: str) -> None:
    """Check that a model sees one camera.

    Raises:
        PlanError: It sees several.
    """
    cameras = world.observation_spec.cameras
    if len(cameras) > 1:
        raise PlanError(
            f"The model sees the cameras {', '.join(cameras)}, and {what}. Use a model of one "
            "camera"
        )


def read_axes(path: str) -> NDArray[np.float64] | None:
    """Read a calibration of `worldmodel calibrate axes`; None for an empty path."""
    return Axes.read(Path(path)).matrix if path else None


def open_policy(
    model: str | WorldModel,
    planner: PlannerOptions,
    *,
    device: Device = "auto",
    precision: Precision = "auto",
    axes: str = "",
    gripper_free: bool = True,
) -> Policy:
    """Load a model and create its policy; `Policy.connect` adds the arm.

    Args:
        model: Name, file or folder, or a loaded model.
        planner: Search settings.
        device: Device to load the model on.
        precision: Data type of the weights of a model that is loaded.
        axes: Calibration file; empty for none.
        gripper_free: Whether to plan the gripper.

    Raises:
        PlanError: See `check_steps`.
    """
    world = open_world(model, device, precision) if isinstance(model, str) else model
    check_steps(world, planner)
    where = next(world.parameters()).device
    chunk = samples_at_once(world, planner)
    config = planner_config(
        planner,
        chunk=chunk,
        device=str(where),
        gripper_free=gripper_free,
        together=launches_dominate(world, planner),
    )
    return Policy(world, config, axes=read_axes(axes))


def fingertips_of(spec: ArmSpec) -> Fingertips:
    """Return the function that reads the fingertips' pose from a state of an arm."""

    def fingertips(state: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        tcp = flange_to_tcp(state, spec.flange_to_tcp_m)
        return (tcp[:3] if spec.state_frame == "flange" else state[:3].copy()), float(tcp[5])

    return fingertips


def chooser_of(
    name: str, world: WorldModel, options: SkillOptions, precision: Precision
) -> Chooser:
    """Return what chooses the skills of an agent.

    Args:
        name: `planner` (imagines), `geometry` (decoded positions), `geometry_yaw` (decoded
            positions and yaws) or `copy` (imagines with a model that predicts no change).
        world: World model.
        options: Settings of the search.
        precision: `auto` imagines in bfloat16 where the processor multiplies it natively.
    """
    if name.startswith("geometry"):
        return GeometryChooser(turns=name == "geometry_yaw")
    model = CopyModel(world) if name == "copy" else world
    autocast = precision == "auto" and world.dynamics.dtype == torch.float32
    imagination = Imagination(model, options.roll_out, autocast=autocast)
    return SearchChooser(SkillSearch(imagination, options))


def make_skill_agent(
    name: str,
    policy: Policy,
    world: WorldModel,
    options: SkillOptions,
    spec: ArmSpec,
    precision: Precision = "auto",
) -> SkillAgent:
    """Create an agent that executes skills.

    Args:
        name: What chooses the skills; see `chooser_of`.
        policy: Policy, connected to the arm.
        world: The policy's world model.
        options: Settings of the search.
        spec: Conventions of the arm.
        precision: See `chooser_of`.

    Raises:
        PlanError: The options or the agent need an object head, which the model lacks; or the
            policy rotates actions; or the model's actions do not turn, or the arm has no gripper.
    """
    if policy.axes is not None:
        raise PlanError(
            "Skills are planned in the robot's base frame, and axes= rotates it. Leave axes= out, "
            "or use method=actions"
        )
    if spec.gripper == "none":
        raise PlanError("Skills use a gripper, and this arm has none. Use method=actions")
    if world.action_spec.action_dim != POSE_DIM:
        raise PlanError(
            f"Skills turn the hand, and this model's actions have {world.action_spec.action_dim} "
            "numbers, without rotation. Use method=actions"
        )
    frames = world.predictor.config.num_frames
    if options.roll_out > frames:
        raise PlanError(
            f"roll_out is {options.roll_out}; allowed: 1 to {frames} with this model, whose "
            f"predictor takes {frames} frames."
        )
    if options.energy == "auto":
        energy: SkillEnergy = "latent" if world.object_head is None else "object"
        options = replace(options, energy=energy)
    geometry = name.startswith("geometry")
    if (geometry or options.energy == "object") and world.object_head is None:
        what = f"The baseline {name}" if geometry else "energy=object"
        raise PlanError(
            f"{what} needs a model with an object head, which this one lacks. Use such a model "
            "(`worldmodel models` lists the embedded ones), or leave it out"
        )
    chooser = chooser_of(name, world, options, precision)
    return SkillAgent(policy, world, options, fingertips_of(spec), chooser)


def make_planning_agent(
    policy: Policy,
    world: WorldModel,
    options: GoalPlannerOptions,
    spec: ArmSpec,
    precision: Precision = "auto",
) -> Agent:
    """Create the agent of a planner whose method is resolved.

    Args:
        policy: Policy, connected to the arm.
        world: The policy's world model.
        options: Settings of the planner.
        spec: Conventions of the arm.
        precision: See `chooser_of`.
    """
    if options.method == "skills":
        return make_skill_agent("planner", policy, world, options.skill_search, spec, precision)
    return PlanningAgent(policy)
