"""Energies: distances between predicted tokens and a goal's tokens.

Shapes: B samples, K horizon, J compared steps, N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from planning.errors import EnergyError, PlanError

UNITS = "Check that state and actions are in the checkpoint's units (m, rad)"


def energy(z_BND: Tensor, goal_1ND: Tensor, norm: str = "l1") -> Tensor:
    """Return the distance [B] between each sample's tokens and the goal's.

    Args:
        z_BND: Tokens of B samples.
        goal_1ND: Tokens of the goal; a goal that shows the main view of several alone has fewer,
            which are compared with the first ones.
        norm: "l1" for the mean absolute difference (Source: V-JEPA 2, sec. 3.3), "l2" for the mean
            squared one.

    Raises:
        PlanError: Unknown norm.
    """
    difference = z_BND[..., : goal_1ND.shape[-2], :] - goal_1ND
    if norm == "l1":
        return difference.abs().flatten(1).mean(1)
    if norm == "l2":
        return difference.square().flatten(1).mean(1)
    raise PlanError(f"Unknown energy {norm!r}; known: l1, l2")


def _is_capturing() -> bool:
    """Return whether a CUDA graph is being captured, during which no value can be read."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def step_energies(
    z_BKND: Tensor, goal_1ND: Tensor, norm: str = "l1", over: str = "final"
) -> Tensor:
    """Return the energies [B, K] of plans if they ended after each predicted step.

    During the capture of a CUDA graph the energies are not checked; the caller checks them later.

    Args:
        z_BKND: Predicted tokens of K steps.
        goal_1ND: Tokens of the goal.
        norm: "l1" or "l2".
        over: "final" compares the last predicted frame, "sum" averages over all frames.

    Raises:
        PlanError: Unknown norm or `over`.
        EnergyError: An energy is not finite; the message names the predicted step.
    """
    if over not in ("final", "sum"):
        raise PlanError(f"Unknown cost {over!r}; known: final, sum")
    horizon = z_BKND.shape[1]
    energies_BK = torch.stack([energy(z_BKND[:, k], goal_1ND, norm) for k in range(horizon)], 1)
    _require_finite(energies_BK, range(horizon))
    if over == "final":
        return energies_BK
    count_K = torch.arange(1, horizon + 1, device=energies_BK.device)
    return energies_BK.cumsum(1) / count_K


def plan_energy(z_BKND: Tensor, goal_1ND: Tensor, norm: str = "l1", over: str = "final") -> Tensor:
    """Return the energies [B] of predicted plans; see `step_energies`."""
    if over == "final":
        energies_B = energy(z_BKND[:, -1], goal_1ND, norm)
        _require_finite(energies_B[:, None], [z_BKND.shape[1] - 1])
        return energies_B
    return step_energies(z_BKND, goal_1ND, norm, over)[:, -1]


def _require_finite(energies_BK: Tensor, steps: Sequence[int]) -> None:
    if _is_capturing() or bool(torch.isfinite(energies_BK).all()):
        return
    finite_K = torch.isfinite(energies_BK).all(0).tolist()
    step = next(k for k, good in zip(steps, finite_K, strict=True) if not good)
    raise EnergyError(
        f"The energy of imagined step {step + 1} is not finite: the model diverged. {UNITS}"
    )
