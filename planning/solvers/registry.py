"""Optimisers by name."""

from __future__ import annotations

from functools import partial

from planning.errors import PlanError
from planning.plugins import load
from planning.solvers.cem import CEM
from planning.solvers.device_cem import DeviceCEM
from planning.solvers.gradient import Gradient
from planning.solvers.icem import ICEM
from planning.solvers.mppi import MPPI
from planning.solvers.nevergrad import Nevergrad
from planning.solvers.search import EliteSolver, Solver

ELITE_SOLVERS: dict[str, type[EliteSolver]] = {"cem": CEM, "icem": ICEM}
OTHER_SOLVERS: dict[str, type[Solver]] = {
    "mppi": MPPI,
    "gradient": Gradient,
    "nevergrad": Nevergrad,
}
NAMES = (*ELITE_SOLVERS, *OTHER_SOLVERS)


def make_optimiser(
    name: str,
    *,
    samples: int,
    iterations: int,
    elites: int,
    min_spread_m: float = 0.0,
    device: str = "cpu",
) -> Solver:
    """Create an optimiser by name.

    Args:
        name: One of `NAMES`, a name that an installed package registers, or `module:Class`.
        samples: Number of plans per iteration.
        iterations: Maximum number of iterations.
        elites: Number of lowest-energy samples that cem and icem keep.
        min_spread_m: Stop once the spread of the best plans is below this [m]; 0 never stops.
        device: The model's device; on CUDA, cem runs there (`DeviceCEM`).

    Raises:
        PlanError: Unknown name; the message lists the known ones. Or a user's class is not a
            solver, or cannot be loaded.
    """
    if name not in ELITE_SOLVERS:
        other = OTHER_SOLVERS.get(name) or _loaded(name)
        return other(num_samples=samples, iterations=iterations, min_spread_m=min_spread_m)
    on_device = name == "cem" and device.startswith("cuda")
    kind = partial(DeviceCEM, device=device) if on_device else ELITE_SOLVERS[name]
    return kind(
        num_samples=samples, iterations=iterations, num_elites=elites, min_spread_m=min_spread_m
    )


def _loaded(name: str) -> type[Solver]:
    found = load("optimiser", name)
    if not (isinstance(found, type) and issubclass(found, Solver)):
        raise PlanError(
            f"The optimiser {name} is not a subclass of planning.solvers.search.Solver. Derive it "
            "from that class."
        )
    return found
