"""Exceptions of the environments; every message says the mend."""


class EnvError(Exception):
    """Root of the environments' own errors."""


class TaskError(EnvError, ValueError):
    """An unknown task, object or option."""


class ConfigError(EnvError, ValueError):
    """An option is out of its range or not among its choices."""


class UnreachableError(EnvError, ValueError):
    """A pose the arm cannot take."""


class RenderingError(EnvError, RuntimeError):
    """Pictures cannot be rendered on this machine."""
