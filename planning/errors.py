"""User-facing exceptions of planning; each states the problem, value, valid range and fix."""


class PlanningError(Exception):
    """Base class of the package's errors."""


class PlanError(PlanningError, ValueError):
    """An option, limit or array is not valid for planning."""


class EnergyError(PlanningError, RuntimeError):
    """The world model returned an energy that is not finite."""


class DriveError(PlanningError, RuntimeError):
    """A drive may not begin, or had to end."""
