"""User-facing exceptions of planning; each states the problem, value, valid range and fix."""


class PlanningError(Exception):
    """Base class of this package's errors."""


class PlanError(PlanningError, ValueError):
    """An option, limit or array is invalid for planning."""


class EnergyError(PlanningError, RuntimeError):
    """The world model returned an energy that is not finite."""


class DriveError(PlanningError, RuntimeError):
    """A drive could not start or had to end."""
