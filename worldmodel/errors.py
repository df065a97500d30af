"""Exceptions that people meet; every message says what, the value, what is allowed and the mend."""


class WorldModelError(Exception):
    """Root of the package's own errors."""


class ConfigError(WorldModelError, ValueError):
    """An option is unknown, missing or outside its range."""


class ShapeError(WorldModelError, ValueError):
    """An array has the wrong shape, dtype or value range."""


class CheckpointError(WorldModelError, RuntimeError):
    """A weights file is unreadable, incomplete, of another layout, or would run code."""


class DownloadError(WorldModelError, RuntimeError):
    """A published file could not be fetched whole."""


class DataError(WorldModelError, RuntimeError):
    """Recorded data is missing, broken or cannot be what it says it is."""


class TrainingError(WorldModelError, RuntimeError):
    """Training cannot go on: divergence, a full disk, a dead rank."""
