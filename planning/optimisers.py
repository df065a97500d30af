"""Optimisers by name."""

from __future__ import annotations

from planning.cem import CEM, Optimiser
from planning.errors import PlanError
from planning.gradient import Gradient
from planning.icem import ICEM
from planning.mppi import MPPI
from planning.nevergrad import Nevergrad

NAMES = ("cem", "icem", "mppi", "gradient", "nevergrad")


def make_optimiser(name: str, *, samples: int, iterations: int, elites: int) -> Optimiser:
    """Make an optimiser.

    Raises:
        PlanError: unknown name; the message lists the known ones.
    """
    if name == "cem":
        return CEM(num_samples=samples, iterations=iterations, num_elites=elites)
    if name == "icem":
        return ICEM(num_samples=samples, iterations=iterations, num_elites=elites)
    if name == "mppi":
        return MPPI(num_samples=samples, iterations=iterations)
    if name == "gradient":
        return Gradient(num_samples=samples, iterations=iterations)
    if name == "nevergrad":
        return Nevergrad(num_samples=samples, iterations=iterations)
    raise PlanError(f"Unknown optimiser {name!r}; known: {', '.join(NAMES)}")
