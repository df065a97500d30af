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


def _captured() -> bool:
    """Whether a CUDA graph is being captured: nothing may be read back then."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def plan_energy(z_BKND: Tensor, goal_1ND: Tensor, norm: str = "l1", over: str = "final") -> Tensor:
    """Energy of plans [B]: of the last imagined frame ("final") or the mean over all ("sum").

    Inside the capture of a CUDA graph the energies are not looked at; who captures checks them.

    Raises:
        PlanError: unknown norm or `over`.
        EnergyError: an energy is not finite; the message names the imagined step.
    """
    if over not in ("final", "sum"):
        raise PlanError(f"Unknown cost {over!r}; known: final, sum")
    horizon = z_BKND.shape[1]
    steps = [horizon - 1] if over == "final" else list(range(horizon))
    parts_JB = torch.stack([energy(z_BKND[:, k], goal_1ND, norm) for k in steps])
    total = parts_JB.sum(0) / len(steps)
    if not _captured() and not bool(torch.isfinite(total).all()):
        finite_J = torch.isfinite(parts_JB).all(1).tolist()
        step = next(k for k, good in zip(steps, finite_J, strict=True) if not good)
        raise EnergyError(
            f"The energy of imagined step {step + 1} is not finite: the model diverged. Check "
            "that state and actions are in the checkpoint's units (m, rad)"
        )
    return total
