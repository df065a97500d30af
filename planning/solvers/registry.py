"""Optimisers by name."""

from __future__ import annotations

from typing import Any

from planning.errors import PlanError
from planning.solvers.cem import CEM, Optimiser
from planning.solvers.device_cem import DeviceCEM
from planning.solvers.gradient import Gradient
from planning.solvers.icem import ICEM
from planning.solvers.mppi import MPPI
from planning.solvers.nevergrad import Nevergrad

NAMES = ("cem", "icem", "mppi", "gradient", "nevergrad")


def make_optimiser(
    name: str,
    *,
    samples: int,
    iterations: int,
    elites: int,
    min_spread_m: float = 0.0,
    device: str = "cpu",
) -> Optimiser:
    """Make an optimiser.

    Args:
        name: one of `NAMES`.
        samples: plans imagined in an iteration.
        iterations: at most.
        elites: kept of each iteration (cem, icem).
        min_spread_m: stop when the best plans agree to this [m], the arm's precision; 0 never.
        device: where the model is; on CUDA cem stays there (`DeviceCEM`).

    Raises:
        PlanError: unknown name; the message lists the known ones.
    """
    both: dict[str, Any] = {"num_samples": samples, "iterations": iterations}
    if name == "cem" and device.startswith("cuda"):
        return DeviceCEM(**both, num_elites=elites, min_spread_m=min_spread_m, device=device)
    if name == "cem":
        return CEM(**both, num_elites=elites, min_spread_m=min_spread_m)
    if name == "icem":
        return ICEM(**both, num_elites=elites, min_spread_m=min_spread_m)
    if name == "mppi":
        return MPPI(**both, min_spread_m=min_spread_m)
    if name == "gradient":
        return Gradient(**both, min_spread_m=min_spread_m)
    if name == "nevergrad":
        return Nevergrad(**both, min_spread_m=min_spread_m)
    raise PlanError(f"Unknown optimiser {name!r}; known: {', '.join(NAMES)}")
