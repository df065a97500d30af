"""User-facing exceptions of this package; each states the problem, the value and the fix."""


class EnvError(Exception):
    """Base class of the environments' errors."""


class TaskError(EnvError, ValueError):
    """Unknown task, object, split, camera or variant."""


class ConfigError(EnvError, ValueError):
    """An option is out of its range or not among its choices."""


class UnreachableError(EnvError, ValueError):
    """The arm cannot reach a pose."""


class RenderingError(EnvError, RuntimeError):
    """This machine cannot render images."""


class TwinError(EnvError, RuntimeError):
    """The simulated robot behind libfranka's protocol is not installed, or does not start."""
