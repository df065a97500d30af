"""Exceptions of robots and recordings; every message says the mend."""


class RobotError(Exception):
    """Root of this package's own errors."""


class ActionError(RobotError, ValueError):
    """An action or pose that no arm may be asked for."""


class RecordingError(RobotError, ValueError):
    """An episode that cannot be written as asked."""
