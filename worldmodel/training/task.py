"""What one kind of training contributes to a run; `worldmodel.training.run` composes the rest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.training.batches import Batch
from worldmodel.training.config import AnyOptions
from worldmodel.training.metrics import Row
from worldmodel.training.sources import Sources
from worldmodel.training.verdict import Finding


class ParameterGroup(TypedDict, total=False):
    """One group of AdamW."""

    params: list[nn.Parameter]
    weight_decay: float
    lr_scale: float
    """Factor on the learning rate; 1 if absent."""


class Task(Protocol):
    """One kind of training."""

    file_name: str
    """Name of the exported model in the run's folder."""

    @property
    def options(self) -> AnyOptions:
        """Return the options of the run."""
        ...

    @property
    def sources(self) -> Sources:
        """Return the clips of the run."""
        ...

    def build(self, device: torch.device) -> nn.Module:
        """Build what is trained and saved; its `forward` maps a batch to {"loss": ..., ...}.

        Called once, after the random generators were seeded.
        """
        ...

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the parameters that are optimised."""
        ...

    def blocks(self) -> Iterable[nn.Module]:
        """Return the parts that FSDP shards one by one."""
        ...

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        ...

    def load(self, step: int, chosen: np.ndarray, part: slice) -> Batch:
        """Read one process's micro-batch.

        Args:
            step: the optimiser step.
            chosen: clip numbers of the global batch.
            part: the clips of it to read.
        """
        ...

    def figures(self, step: int) -> Row:
        """Return extra figures of a logged step."""
        ...

    def after_step(self, step: int) -> None:
        """Update what follows the weights, such as a moving average."""
        ...

    def validate(self) -> Row:
        """Measure the model on held-out clips."""
        ...

    def export(self, path: Path, weights: dict[str, Tensor]) -> dict[str, object]:
        """Write the trained model from the whole weights of the built module.

        Returns:
            Facts for summary.json.
        """
        ...

    def findings(self, row: Row) -> list[Finding]:
        """Judge a validated row in words."""
        ...


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
    """Return the weights whose names begin with `prefix.`, without the prefix."""
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)}
