"""Optional fast implementations of layers; see `optimize_for_cpu`."""

from worldmodel.models.kernels.optimize import optimize_for_cpu

__all__ = ["optimize_for_cpu"]
