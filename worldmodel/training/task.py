"""Interface of training tasks, which `worldmodel.training.run` composes with the loop."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.constants import POSE_DIM
from worldmodel.evaluation.rollout_error import offline_action_error
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.specs import ObservationSpec, StateFrame
from worldmodel.training.batches import Batch
from worldmodel.training.config import AnyOptions, PredictorOptions
from worldmodel.training.decoded import write_rollout_pictures
from worldmodel.training.loop import LossFunction
from worldmodel.training.metrics import Row
from worldmodel.training.objective import Objective
from worldmodel.training.sources import Sources
from worldmodel.training.verdict import Finding, judge_course, judge_prediction, last_validation


class ParameterGroup(TypedDict, total=False):
    """A parameter group of AdamW."""

    params: list[nn.Parameter]
    weight_decay: float
    lr_scale: float
    """Factor on the learning rate; defaults to 1."""


def decayed_groups(
    parameters: Iterable[nn.Parameter], weight_decay: float, lr_scale: float = 1.0
) -> list[ParameterGroup]:
    """Group parameters: matrices with weight decay; biases, norms and vectors without."""
    live = [p for p in parameters if p.requires_grad]
    matrices = [p for p in live if p.ndim > 1]
    vectors = [p for p in live if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": weight_decay, "lr_scale": lr_scale},
        {"params": vectors, "weight_decay": 0.0, "lr_scale": lr_scale},
    ]


def part_of(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights under `prefix.`, with the prefix removed."""
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)}


class Task(ABC):
    """A kind of training.

    Args:
        options: Options of the run.
        sources: Clips of the run.
    """

    file_name = "model.safetensors"
    """Name of the exported model in the run's folder."""
    options: AnyOptions
    objective: nn.Module
    """What `build` made."""

    def __init__(self, options: AnyOptions, sources: Sources) -> None:
        self.options, self.sources = options, sources

    @abstractmethod
    def build(self, device: torch.device) -> nn.Module:
        """Build the trained module, whose `forward` maps a batch to {"loss": ..., ...}.

        It is called once, after seeding the random generators.
        """

    def losses(self, engine: nn.Module, device: torch.device) -> LossFunction:
        """Return what computes the losses of a micro-batch: the built module itself.

        Args:
            engine: The built module, as `Ranks.wrap` returns it.
            device: Its device.
        """
        return engine

    def start_modules(self) -> Iterable[nn.Module]:
        """Return the trained modules that the run starts from: none."""
        return ()

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the parameters that are optimised; those without gradients are left out."""
        return decayed_groups(self.objective.parameters(), self.options.optimizer.weight_decay)

    @abstractmethod
    def blocks(self) -> Iterable[nn.Module]:
        """Return the submodules that FSDP shards separately."""

    @abstractmethod
    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step."""

    @abstractmethod
    def load(self, step: int, chosen: np.ndarray, part: slice) -> Batch:
        """Read one process's micro-batch.

        Args:
            step: Optimiser step.
            chosen: Clip indices of the global batch.
            part: Slice of the global batch to read.
        """

    def figures(self, step: int) -> Row:
        """Return extra figures of a logged step: none."""
        return {}

    def before_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Set what a schedule changes besides the learning rate: nothing."""
        return

    def after_step(self, step: int) -> None:
        """Update what follows the weights, such as a moving average: nothing."""
        return

    @abstractmethod
    def validate(self) -> Row:
        """Measure the model on held-out clips."""

    @abstractmethod
    def export(self, path: Path, weights: dict[str, Tensor]) -> dict[str, object]:
        """Write the trained model from the full weights of the built module.

        Returns:
            Entries for summary.json.
        """

    @abstractmethod
    def findings(self, row: Row) -> list[Finding]:
        """Return the verdict on the metrics of a validation."""

    def verdict(self, rows: Sequence[Row]) -> list[Finding]:
        """Return the verdict on a run: on its last validation, and on its course."""
        return self.findings(last_validation(rows)) + judge_course(rows)

    def show(self, out: Path) -> None:
        """Write pictures beside the exported model, for the report: none."""
        return


class PredictorTask(Task):
    """Training of an action-conditioned predictor, with or without its encoder."""

    options: PredictorOptions
    objective: Objective
    held_out: Batch
    """Clips of the validations, which `build` reads."""

    def blocks(self) -> Iterable[nn.Module]:
        """Return the predictor's transformer blocks."""
        return list(self.objective.dynamics.predictor.predictor_blocks)

    def observation(self, encoder: FrameEncoder, state_frame: StateFrame) -> ObservationSpec:
        """Return what the trained model sees: the encoder's spec with the run's own data."""
        clips = self.options.clips
        return dataclasses.replace(
            encoder.observation_spec,
            transform=clips.transform,
            cameras=clips.cameras,
            state_frame=state_frame,
            state_dim=self.objective.dynamics.config.predictor.state_dim,
        )

    def findings(self, row: Row) -> list[Finding]:
        """Judge predictions, their use of actions, and planning."""
        return judge_prediction(row)

    def show(self, out: Path) -> None:
        """Write decoded roll-outs of held-out clips, if the encoder has a picture decoder."""
        start = getattr(self.options, "start", None)
        write_rollout_pictures(
            out, out / self.file_name, "" if start is None else start.encoder, self.held_out
        )

    def action_error(self, *data: Tensor) -> Row:
        """Plan recorded moves of tokens, states and actions; nothing if actions are not poses."""
        count = self.options.planning.plan_clips
        if not count or data[2].shape[-1] != POSE_DIM:
            return {}
        return offline_action_error(self.objective.dynamics, *(value[:count] for value in data))

    def trained(self, weights: dict[str, Tensor]) -> LatentDynamics:
        """Return dynamics with the trained weights; the random generator is left alone."""
        with torch.random.fork_rng(devices=[]):
            dynamics = LatentDynamics(self.objective.dynamics.config)
        dynamics.load_state_dict(part_of(weights, "dynamics"))
        return dynamics
