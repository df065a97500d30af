"""User-facing exceptions of this package; each states the problem, the value and the fix."""


class RobotError(Exception):
    """Base class of this package's errors."""


class ConfigError(RobotError, ValueError):
    """A limit or setting is out of its range."""


class UnreachableError(RobotError, ValueError):
    """A pose is outside the arm's reach or too near a joint limit."""


class ArmError(RobotError, RuntimeError):
    """The arm reports an error, does not answer, or its driver process has exited."""


class GripperError(ArmError):
    """A gripper with its own connection is lost, reports a fault, or cannot be opened."""


class ReflexError(ArmError):
    """The arm detected a collision and stopped; a person must inspect it before `recover`."""


class CameraError(RobotError, RuntimeError):
    """A camera cannot be opened, was unplugged, or delivers unusable frames."""


class CalibrationError(RobotError, ValueError):
    """No rotation can be estimated from the moves."""
