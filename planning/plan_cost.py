"""Energies of action sequences from one observation, as imagined by a model.

A cost says which tensors it depends on, so that a captured CUDA graph of one plan can be replayed
for the next: only these tensors change.

Shapes: B samples, K horizon, N tokens, D width, S state, A action.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from planning.energy import plan_energy, step_energies
from planning.protocols import Dynamics, Past


@dataclass
class Tally:
    """Count of what a model predicted."""

    calls: int = 0
    """Number of times that the model ran, one after the other."""
    frames: int = 0
    """Number of frames that it predicted: samples times steps."""


@dataclass(frozen=True, kw_only=True)
class PlanCost:
    """Function from actions [B, K, A] to energies [B]."""

    model: Dynamics
    z_1ND: Tensor
    """Tokens of the current frame."""
    state_1S: Tensor
    """Current state."""
    goal_1ND: Tensor
    """Tokens of the goal."""
    past: Past | None = None
    """Earlier frames, from the model's `remember`."""
    norm: Literal["l1", "l2"] = "l1"
    over: Literal["final", "sum"] = "final"
    chunk: int = 1024
    """Number of samples evaluated at once."""
    repeats: int = 1
    """Number of times that a single action is repeated; 1 for sequences of actions."""
    tally: Tally = field(default_factory=Tally, compare=False)

    def __call__(self, actions_BKA: Tensor) -> Tensor:
        """Return the energies [B] of action sequences.

        Raises:
            EnergyError: An energy is not finite.
        """
        imagined = self._imagine(self.repeated(actions_BKA))
        return torch.cat([plan_energy(z, self.goal_1ND, self.norm, self.over) for z in imagined])

    def by_step(self, actions_BKA: Tensor) -> Tensor:
        """Return the energies [B, K] of action sequences if they ended after each step.

        Raises:
            EnergyError: An energy is not finite.
        """
        imagined = self._imagine(actions_BKA)
        return torch.cat([step_energies(z, self.goal_1ND, self.norm, self.over) for z in imagined])

    def repeated(self, actions_BKA: Tensor) -> Tensor:
        """Return actions as the model executes them: single ones `repeats` times."""
        return actions_BKA if self.repeats == 1 else actions_BKA.expand(-1, self.repeats, -1)

    def _imagine(self, actions_BKA: Tensor) -> Iterator[Tensor]:
        """Yield the predicted tokens of each chunk of samples."""
        self.count(*actions_BKA.shape[:2])
        extra = () if self.past is None else (self.past,)
        for chunk_BKA in actions_BKA.to(self.z_1ND.device).split(self.chunk):
            yield self.model.unroll(self.z_1ND, self.state_1S, chunk_BKA, *extra)

    def count(self, samples: int, steps: int) -> None:
        """Add an evaluation of plans of `steps` predicted frames to the tally."""
        self.tally.calls += math.ceil(samples / self.chunk)
        self.tally.frames += samples * steps

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What the energies depend on, beside the model's weights."""
        past = [part for layer in self.past or () for part in layer]
        return (self.z_1ND, self.state_1S, self.goal_1ND, *past)

    def with_tensors(self, tensors: tuple[Tensor, ...]) -> Self:
        """Return the same cost of other tensors, with a tally of its own."""
        z_1ND, state_1S, goal_1ND, *rest = tensors
        past = None if self.past is None else list(zip(rest[::2], rest[1::2], strict=True))
        return replace(
            self, z_1ND=z_1ND, state_1S=state_1S, goal_1ND=goal_1ND, past=past, tally=Tally()
        )

    @property
    def kind(self) -> Hashable:
        """What a captured graph of this cost is valid for, beside the shape of the actions.

        Weights that are replaced, not written in place, make another kind.
        """
        settings = self.norm, self.over, self.chunk, self.repeats
        shapes = tuple((t.shape, t.dtype, t.device) for t in self.tensors)
        return id(self.model), _weights(self.model), settings, shapes


def joint_energies(costs: Sequence[PlanCost], actions: Sequence[Tensor]) -> list[Tensor]:
    """Return the energies [B] of each cost's actions [B, K, A], imagined in one batch.

    Args:
        costs: Costs of the same tensors, which may differ in `repeats`.
        actions: Actions of each cost; shorter ones are padded with zeros, and count at their end.
    """
    whole = [cost.repeated(x) for cost, x in zip(costs, actions, strict=True)]
    longest = max(x.shape[1] for x in whole)
    padded = [F.pad(x, (0, 0, 0, longest - x.shape[1])) for x in whole]
    by_step = costs[0].by_step(torch.cat(padded)).split([len(x) for x in whole])
    return [e_BK[:, x.shape[1] - 1] for e_BK, x in zip(by_step, whole, strict=True)]


def _weights(model: Dynamics) -> tuple[Hashable, ...]:
    """Return where a model's weights lie."""
    if not isinstance(model, torch.nn.Module):
        return ()
    return tuple((p.data_ptr(), p.dtype) for p in (*model.parameters(), *model.buffers()))
