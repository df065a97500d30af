"""Energy of imagined tokens against a goal's.

Shapes: B samples, K horizon, N tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planning.errors import EnergyError, PlanError


def energy(z_BND: Tensor, goal_1ND: Tensor, norm: str = "l1") -> Tensor:
    """Mean absolute ("l1", as published) or squared ("l2") difference, per sample [B]."""
    difference = z_BND - goal_1ND
    if norm == "l1":
        return difference.abs().flatten(1).mean(1)
    if norm == "l2":
        return difference.square().flatten(1).mean(1)
    raise PlanError(f"Unknown energy {norm!r}; known: l1, l2")


def plan_energy(z_BKND: Tensor, goal_1ND: Tensor, norm: str = "l1", over: str = "final") -> Tensor:
    """Energy of plans [B]: of the last imagined frame ("final") or the mean over all ("sum").

    Raises:
        PlanError: unknown norm or `over`.
        EnergyError: an energy is not finite; the message names the imagined step.
    """
    if over not in ("final", "sum"):
        raise PlanError(f"Unknown cost {over!r}; known: final, sum")
    horizon = z_BKND.shape[1]
    steps = [horizon - 1] if over == "final" else range(horizon)
    total = torch.zeros(len(z_BKND), device=z_BKND.device)
    for k in steps:
        part = energy(z_BKND[:, k], goal_1ND, norm)
        if not bool(torch.isfinite(part).all()):
            raise EnergyError(
                f"The energy of imagined step {k + 1} is not finite: the model diverged. Check "
                "that state and actions are in the checkpoint's units (m, rad)"
            )
        total = total + part
    return total / len(steps)
