"""The one way from a model's name and planner options to a policy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.mujoco_arm import BOX_HIGH_M, BOX_LOW_M
from planning.agent import PlanningAgent
from planning.bounds import Bounds
from planning.options import Device, PlannerOptions
from planning.planner import Planner, PlannerConfig
from planning.solvers.registry import make_optimiser
from robot.calibrate import Axes
from worldmodel.checkpoint import load
from worldmodel.data.transforms import Preprocess
from worldmodel.models.world_model import WorldModel

Image = NDArray[np.uint8]
Point = tuple[float, float, float]
Box = tuple[Point, Point]
"""Lowest and highest position [m]."""


def point(values: Iterable[float]) -> Point:
    """Return x, y and z as a tuple."""
    x, y, z = (float(value) for value in values)
    return x, y, z


def samples_at_once(world: WorldModel, options: PlannerOptions) -> int:
    """Return how many plans fit into `memory_gb`, at least 1."""
    each = world.bytes_per_sample(max(options.horizon, options.stretch))
    return max(1, int(options.memory_gb * 1e9 / each))


def planner_config(
    options: PlannerOptions,
    gripper: str,
    *,
    chunk: int = 1024,
    device: str = "cpu",
    box_m: Box | None = None,
) -> PlannerConfig:
    """Return the planner that the options describe.

    Args:
        options: settings of the search.
        gripper: the model's gripper convention, command or difference.
        chunk: plans imagined at once; see `samples_at_once`.
        device: where the model is.
        box_m: lowest and highest flange position of a plan [m]; None: the simulated workcell's.
    """
    low, high = box_m or (point(BOX_LOW_M), point(BOX_HIGH_M))
    return PlannerConfig(
        optimiser=make_optimiser(
            options.optimiser,
            samples=options.samples,
            iterations=options.iterations,
            elites=options.num_elites,
            min_spread_m=options.min_spread_m,
            device=device,
        ),
        bounds=Bounds(
            gripper="ternary" if gripper == "command" else "published", low_m=low, high_m=high
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
    )


class Policy:
    """A model, its preprocessing and a planner."""

    def __init__(
        self, model: WorldModel, config: PlannerConfig, *, axes: NDArray[np.float64] | None = None
    ) -> None:
        self.model, self.config, self.axes = model, config, axes
        self.planner = Planner(model, config)
        self._transform = Preprocess("droid", model.image_size)

    def preprocess(self, image: Image) -> Image:
        """Return a picture of any size as the model's input [H, W, 3]."""
        prepared = self._transform(torch.as_tensor(np.ascontiguousarray(image)))
        return prepared.numpy()

    def encode(self, image: Image) -> Tensor:
        """Encode a picture of any size -> tokens [1, N, D]."""
        return self.model.encode(torch.as_tensor(self.preprocess(image))[None])

    def agent(self) -> PlanningAgent:
        """Return an agent that plans toward goal images."""
        return PlanningAgent(self.planner, axes=self.axes)


def read_axes(path: str) -> NDArray[np.float64] | None:
    """Read a calibration of `worldmodel calibrate axes`; None for an empty path."""
    return Axes.read(Path(path)).matrix if path else None


def open_policy(
    model: str | WorldModel,
    planner: PlannerOptions,
    *,
    device: Device = "auto",
    axes: str = "",
    box_m: Box | None = None,
    gripper_free: bool = True,
) -> Policy:
    """Load a model and make its policy.

    Args:
        model: name, file or folder, or a model that is loaded already.
        planner: settings of the search.
        device: where to load the model to.
        axes: calibration file; empty for none.
        box_m: lowest and highest flange position of a plan [m]; None: the simulated workcell's.
        gripper_free: False plans positions alone, without a box.
    """
    world = load(model, device) if isinstance(model, str) else model
    where = next(world.parameters()).device
    chunk = samples_at_once(world, planner)
    config = planner_config(
        planner, world.action_spec.gripper, chunk=chunk, device=str(where), box_m=box_m
    )
    if not gripper_free:
        bounds = replace(config.bounds, gripper_free=False, low_m=None, high_m=None)
        config = replace(config, bounds=bounds)
    return Policy(world, config, axes=read_axes(axes))
