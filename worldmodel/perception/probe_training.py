"""Train many probe heads at once on the same frozen tokens, as published for V-JEPA 2.

Every head has its own AdamW, with weight decay on all parameters, and a cosine schedule from its
learning rate to zero that advances before each update. Gradients are not clipped.

Shapes: V views, B videos, N tokens, D width, C classes, P heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError
from worldmodel.models.config import ProbeConfig
from worldmodel.models.probe import AttentiveClassifier
from worldmodel.perception.frozen_tokens import average_views


@dataclass(frozen=True, kw_only=True)
class HeadSettings(Checked):
    """Optimiser settings of one head of the grid."""

    lr: float = field(default=1e-3, metadata=between(1e-12, 10))
    """Maximum learning rate."""
    weight_decay: float = field(default=0.01, metadata=between(0, 10))
    """Weight decay, on all parameters."""
    warmup_steps: int = field(default=0, metadata=between(0, 10**9))
    """Number of steps of a linear warm-up from zero."""


def grid(
    rates: Sequence[float], decays: Sequence[float], warmup_steps: int = 0
) -> tuple[HeadSettings, ...]:
    """Return settings for every combination of learning rate and weight decay."""
    return tuple(
        HeadSettings(lr=lr, weight_decay=decay, warmup_steps=warmup_steps)
        for lr, decay in product(rates, decays)
    )


TWENTY_HEADS = grid((5e-3, 3e-3, 1e-3, 3e-4, 1e-4), (0.8, 0.4, 0.1, 0.01))
"""Published grid for K400, Something-Something v2 and COIN."""
THREE_HEADS = grid((1e-3, 3e-4, 1e-4), (0.8,))
"""Published grid for Diving48 and Jester."""


def cosine_to_zero(step: int, total: int, warmup: int = 0) -> float:
    """Return the learning rate factor at a step (from 1): warm-up, then cosine to zero."""
    if step < warmup:
        return step / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.5 * (1.0 + math.cos(math.pi * done))


class ProbeGrid(nn.Module):
    """Heads of one architecture, trained on the same tokens.

    Args:
        config: sizes of a head.
        settings: optimiser settings of each head.
        total_steps: number of updates, over which the schedules run.
        seed: seed of the weights; all heads start from the same weights.

    Raises:
        ConfigError: there are no settings, or fewer than one step.
    """

    def __init__(
        self, config: ProbeConfig, settings: Sequence[HeadSettings], total_steps: int, seed: int = 0
    ) -> None:
        super().__init__()
        if not settings or total_steps < 1:
            raise ConfigError(
                f"{len(settings)} heads and {total_steps} steps: both must be at least 1"
            )
        self.settings, self.total_steps, self.steps_done = tuple(settings), total_steps, 0
        with torch.random.fork_rng(devices=[]):
            heads = []
            for _ in settings:
                torch.manual_seed(seed)
                heads.append(AttentiveClassifier(config))
        self.heads = nn.ModuleList(heads)
        self.optimizers = [
            torch.optim.AdamW(head.parameters(), lr=s.lr, weight_decay=s.weight_decay)
            for head, s in zip(heads, self.settings, strict=True)
        ]

    def update(self, tokens_VBND: Tensor, labels_B: Tensor) -> Tensor:
        """Update every head once; the gradients of the views are summed.

        Returns:
            Cross-entropy of each head before its update, averaged over views [P].
        """
        self.steps_done += 1
        losses = []
        for head, optimizer, s in zip(self.heads, self.optimizers, self.settings, strict=True):
            rate = s.lr * cosine_to_zero(self.steps_done, self.total_steps, s.warmup_steps)
            optimizer.param_groups[0]["lr"] = rate
            loss = sum(
                (F.cross_entropy(head(view), labels_B) for view in tokens_VBND), torch.zeros(())
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach() / len(tokens_VBND))
        return torch.stack(losses)

    @torch.no_grad()
    def probabilities(self, tokens_VBND: Tensor) -> Tensor:
        """Return each head's class probabilities, averaged over views [P, B, C]."""
        return torch.stack(
            [average_views(torch.stack([head(v) for v in tokens_VBND])) for head in self.heads]
        )

    def training_state(self) -> dict[str, Any]:
        """Return the state needed for an exact resume of training."""
        return {
            "heads": self.heads.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "steps_done": self.steps_done,
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Resume from a state of the same grid."""
        self.heads.load_state_dict(state["heads"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.steps_done = state["steps_done"]
