"""User-facing exceptions; each message states the problem, value, valid range and fix."""


class WorldModelError(Exception):
    """Base class of this package's errors."""


class ConfigError(WorldModelError, ValueError):
    """An option is unknown, missing or outside its range."""


class ShapeError(WorldModelError, ValueError):
    """An array has the wrong shape, dtype or value range."""


class CheckpointError(WorldModelError, RuntimeError):
    """A weights file is unreadable, incomplete, of an unsupported layout, or would run code."""


class DownloadError(WorldModelError, RuntimeError):
    """A published file could not be fetched completely."""


class UploadError(WorldModelError, RuntimeError):
    """A model could not be stored on the Hugging Face hub."""


class DataError(WorldModelError, RuntimeError):
    """Recorded data is missing, damaged or contradicts itself."""


class TrainingError(WorldModelError, RuntimeError):
    """Training cannot continue: divergence, a full disk or a dead rank."""
