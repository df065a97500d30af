"""Opt-in fast paths, each beside its plain equal; `optimize_for_cpu` is the way in."""

from worldmodel.models.kernels.optimize import optimize_for_cpu

__all__ = ["optimize_for_cpu"]
