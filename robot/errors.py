"""Exceptions of robots and recordings; every message says the mend."""


class RobotError(Exception):
    """Root of this package's own errors."""


class ActionError(RobotError, ValueError):
    """An action or pose that no arm may be asked for."""


class RecordingError(RobotError, ValueError):
    """An episode that cannot be written as asked."""


class ConfigError(RobotError, ValueError):
    """A limit or setting that makes no sense."""


class UnreachableError(RobotError, ValueError):
    """A pose outside the arm's reach or too near a joint limit."""


class ArmError(RobotError, RuntimeError):
    """The arm reports an error, cannot be reached, or its driver has died."""


class ReflexError(ArmError):
    """The arm has felt a collision and stopped by itself; a person must look, then recover."""


class TrippedError(ArmError):
    """A safety device has stopped the arm; a person must look and confirm."""


class CameraError(RobotError, RuntimeError):
    """A camera that cannot be opened, has been unplugged, or gives bad frames."""


class CalibrationError(RobotError, ValueError):
    """Moves from which no rotation can be told."""
