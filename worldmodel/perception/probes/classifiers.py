"""The grid of attentive classifiers, as published for V-JEPA 2.

Every head has its own AdamW, with weight decay on all parameters, and a cosine schedule from its
learning rate to zero that advances before each update. Gradients are not clipped.

Shapes: V views, B videos, N tokens, D width, C classes, P heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodel.models.config import ProbeConfig
from worldmodel.models.probe import AttentiveClassifier
from worldmodel.perception.heads.grid import HeadGrid, HeadSettings
from worldmodel.perception.probes.frozen_tokens import average_views


def summed_cross_entropy(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Return the cross-entropy, summed over items."""
    return F.cross_entropy(logits_BC.float(), labels_B, reduction="sum")


class ProbeGrid(HeadGrid[Tensor]):
    """Attentive classifiers of one architecture, trained on the same tokens.

    Args:
        config: Sizes of a head.
        settings: Optimiser settings of each head.
        total_steps: Number of updates, over which the schedules run.
        seed: Seed of the weights; all heads start from the same weights.
        low: Data type of autocast; None computes in float32.
        exchange: Sums tensors over processes, in place; None trains in one process.

    Raises:
        ConfigError: There are no settings, or fewer than one step.
    """

    def __init__(
        self,
        config: ProbeConfig,
        settings: Sequence[HeadSettings],
        total_steps: int,
        seed: int = 0,
        *,
        low: torch.dtype | None = None,
        exchange: Callable[[list[Tensor]], None] | None = None,
    ) -> None:
        super().__init__(
            lambda: AttentiveClassifier(config),
            summed_cross_entropy,
            settings,
            total_steps,
            seed,
            low=low,
            exchange=exchange,
        )


@torch.no_grad()
def probabilities(heads: HeadGrid[Tensor], tokens_VBND: Tensor) -> Tensor:
    """Return the class probabilities of each head, averaged over views [P, B, C]."""
    with heads.autocast(tokens_VBND.device):
        views = [
            torch.stack([logits for group in heads.outputs(view) for _, logits in group])
            for view in tokens_VBND
        ]
    return torch.stack([average_views(logits) for logits in torch.stack(views, dim=1)])
