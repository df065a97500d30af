"""Train many heads at once on the same frozen tokens.

Every head is trained as it would be alone: one AdamW has a parameter group for each, and gradients
are clipped and scaled for each.

Shapes: V views, B items, N tokens, D width, P heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError
from worldmodel.models.probe import AttentivePooler
from worldmodel.perception.heads.shared_pooling import can_share, pool_shared

Output = TypeVar("Output")
AT_ONCE = 2**26
"""Number of values of tokens whose gradients are computed together, which bounds the memory."""
SCALE, GROW_AFTER = 65536.0, 2000
"""Factor of a float16 loss at first, and number of finite updates after which it is doubled."""


@dataclass(frozen=True, kw_only=True)
class HeadSettings(Checked):
    """Optimiser settings of one head of the grid."""

    lr: float = field(default=1e-3, metadata=between(1e-12, 10))
    """Maximum learning rate."""
    final_lr: float = field(default=0.0, metadata=between(0, 10))
    """Learning rate at the last update."""
    weight_decay: float = field(default=0.01, metadata=between(0, 10))
    """Weight decay at the first update."""
    final_decay: float | None = field(default=None, metadata=between(0, 10))
    """Weight decay at the last update, reached along a cosine; None keeps it constant."""
    decay_all: bool = True
    """Whether weight decay acts on all parameters; False spares those of one axis, as biases."""
    warmup_steps: int = field(default=0, metadata=between(0, 10**9))
    """Number of steps of a linear warm-up from zero."""
    clip_norm: float | None = field(default=None, metadata=between(1e-12, 1e12))
    """Maximum norm of a head's gradient; None does not clip."""

    def lr_at(self, step: int, total: int) -> float:
        """Return the learning rate of a step (from 1)."""
        share = cosine_to_zero(step, total, self.warmup_steps)
        if step < self.warmup_steps:
            return self.lr * share
        return self.final_lr + (self.lr - self.final_lr) * share

    def decay_at(self, step: int, total: int) -> float:
        """Return the weight decay of a step (from 1)."""
        if self.final_decay is None:
            return self.weight_decay
        share = cosine_to_zero(step, total)
        return self.final_decay + (self.weight_decay - self.final_decay) * share


def grid(
    rates: Sequence[float], decays: Sequence[float], warmup_steps: int = 0
) -> tuple[HeadSettings, ...]:
    """Return settings for every combination of learning rate and weight decay."""
    return tuple(
        HeadSettings(lr=lr, weight_decay=decay, warmup_steps=warmup_steps)
        for lr, decay in product(rates, decays)
    )


def cosine_to_zero(step: int, total: int, warmup: int = 0) -> float:
    """Return the learning rate factor at a step (from 1): warm-up, then cosine to zero."""
    if step < warmup:
        return step / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.5 * (1.0 + math.cos(math.pi * done))


class HeadGrid(nn.Module, Generic[Output]):
    """Heads of one architecture, trained on the same tokens.

    Args:
        build: Returns a new head, a module that maps tokens [B, N, D] to an output. A head with a
            `pooler` and a method `read` of pooled vectors shares the pooling where it can.
        loss: Loss of an output and labels, summed over items.
        settings: Optimiser settings of each head.
        total_steps: Number of updates, over which the schedules run.
        seed: Seed of the weights; all heads start from the same weights.
        is_mean: Whether the loss is divided by the number of items.
        low: Data type of autocast, float16 or bfloat16; None computes in float32.
        exchange: Sums tensors over processes, in place; None trains in one process.

    Raises:
        ConfigError: There are no settings, or fewer than one step.
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        loss: Callable[[Output, Tensor], Tensor],
        settings: Sequence[HeadSettings],
        total_steps: int,
        seed: int = 0,
        *,
        is_mean: bool = True,
        low: torch.dtype | None = None,
        exchange: Callable[[list[Tensor]], None] | None = None,
    ) -> None:
        super().__init__()
        if not settings or total_steps < 1:
            raise ConfigError(
                f"{len(settings)} heads and {total_steps} steps: both must be at least 1"
            )
        self.settings, self.total_steps, self.steps_done = tuple(settings), total_steps, 0
        self.loss, self.is_mean, self.low, self.exchange = loss, is_mean, low, exchange
        with torch.random.fork_rng(devices=[]):
            heads = []
            for _ in settings:
                torch.manual_seed(seed)
                heads.append(build())
        self.heads = nn.ModuleList(heads)
        found = [getattr(head, "pooler", None) for head in heads]
        poolers = [pooler for pooler in found if isinstance(pooler, AttentivePooler)]
        self.poolers = poolers if can_share(poolers) else []
        self.scales = [SCALE if low == torch.float16 else 1.0] * len(heads)
        self.finite = [0] * len(heads)
        self.optimizer = torch.optim.AdamW(self._groups(), fused=True)

    def _groups(self) -> list[dict[str, Any]]:
        """Return the optimiser's parameter groups, with the number of the head of each."""
        groups = []
        for number, (head, s) in enumerate(zip(self.heads, self.settings, strict=True)):
            for decays in (True, False):
                weights = [
                    p for p in head.parameters() if (s.decay_all or p.squeeze().ndim > 1) == decays
                ]
                if weights:
                    groups.append({"params": weights, "head": number, "decays": decays})
        return groups

    def _schedule(self) -> None:
        for group in self.optimizer.param_groups:
            s: HeadSettings = self.settings[group["head"]]
            step, total = self.steps_done, self.total_steps
            group["lr"] = s.lr_at(step, total)
            group["weight_decay"] = s.decay_at(step, total) if group["decays"] else 0.0

    def outputs(self, tokens_BND: Tensor) -> Iterator[list[tuple[int, Output]]]:
        """Yield the numbers and outputs of the heads, in groups that are computed together."""
        if self.poolers:
            pooled = pool_shared(self.poolers, tokens_BND)
            pairs = zip(self.heads, pooled, strict=True)
            # a head with a pooler has `read`, see `build`
            yield [(i, head.read(p)) for i, (head, p) in enumerate(pairs)]  # type: ignore[operator]
        else:
            for i, head in enumerate(self.heads):
                yield [(i, head(tokens_BND))]

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return autocast to the data type of the products."""
        return torch.autocast(device.type, self.low or torch.bfloat16, enabled=bool(self.low))

    def update(self, tokens_VBND: Tensor, labels_B: Tensor, count: int | None = None) -> Tensor:
        """Update every head once; the gradients of the views are summed.

        Args:
            tokens_VBND: Tokens of this process's items of the batch, which may be none.
            labels_B: Their labels.
            count: Number of items of the batch in all processes; None is that of `labels_B`.

        Returns:
            Loss of each head before its update, averaged over views [P].
        """
        self.steps_done += 1
        self._schedule()
        size = (len(labels_B) if count is None else count) if self.is_mean else 1
        self.optimizer.zero_grad(set_to_none=False)
        losses = torch.zeros(len(self.heads), device=labels_B.device)
        for view in tokens_VBND if len(labels_B) else ():
            items = max(1, AT_ONCE // view[0].numel())
            for part, labels in zip(view.split(items), labels_B.split(items), strict=True):
                self._backward(part, labels, size, losses)
        if self.exchange:
            self.exchange([losses])
        for number, head in enumerate(self.heads):
            self._prepare(number, head)
        self.optimizer.step()
        return losses / max(1, len(tokens_VBND))

    def _backward(self, view_BND: Tensor, labels_B: Tensor, size: int, losses: Tensor) -> None:
        """Add the gradients of a view, and its losses to `losses`."""
        with self.autocast(view_BND.device):
            for group in self.outputs(view_BND):
                found = [(i, self.loss(output, labels_B) / size) for i, output in group]
                torch.stack([loss * self.scales[i] for i, loss in found]).sum().backward()
                for i, loss in found:
                    losses[i] += loss.detach()

    def _prepare(self, number: int, head: nn.Module) -> None:
        """Sum a head's gradient over processes, undo its scale and clip it.

        A head whose float16 gradient is not finite is not updated, and its scale is halved.
        """
        grads = [_gradient(p) for p in head.parameters()]
        if self.exchange:
            self.exchange(grads)
        scale = self.scales[number]
        if self.low == torch.float16:
            for grad in grads:
                grad.div_(scale)
            is_finite = bool(nn.utils.get_total_norm(grads).isfinite())
            self.finite[number] = self.finite[number] + 1 if is_finite else 0
            if not is_finite:
                self.scales[number] = scale / 2
                for p in head.parameters():
                    p.grad = None
                return
            if self.finite[number] % GROW_AFTER == 0:
                self.scales[number] = scale * 2
        limit = self.settings[number].clip_norm
        if limit is not None:
            nn.utils.clip_grad_norm_(head.parameters(), limit)

    def training_state(self) -> dict[str, Any]:
        """Return the state needed for an exact resume of training."""
        return {
            "heads": self.heads.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scales": self.scales,
            "finite": self.finite,
            "steps_done": self.steps_done,
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Resume from a state of the same grid."""
        self.heads.load_state_dict(state["heads"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scales, self.finite = list(state["scales"]), list(state["finite"])
        self.steps_done = state["steps_done"]


def _gradient(weight: Tensor) -> Tensor:
    """Return a parameter's gradient, zeros if no item had one."""
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    return weight.grad
