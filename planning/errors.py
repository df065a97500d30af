"""Exceptions of planning; every message says the mend."""


class PlanningError(Exception):
    """Root of the package's own errors."""


class PlanError(PlanningError, ValueError):
    """An option, bound or array a planner cannot work with."""


class EnergyError(PlanningError, RuntimeError):
    """The world model gave an energy that is not a number."""


class DriveError(PlanningError, RuntimeError):
    """A drive that may not begin, or that had to end."""
