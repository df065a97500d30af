"""Options of the clips that training reads.

This module does not import torch, so that `--help` is fast. The docstring under a field is its help
text; every number declares its range, and every class validates its values on construction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError
from worldmodel.specs import chosen_views


@dataclass(frozen=True, kw_only=True)
class ClipLength(Checked):
    """Length of the clips of a run."""

    num_frames: int = field(default=4, metadata=between(2, 4096, "frames"))
    """Number of frames per clip."""


@dataclass(frozen=True, kw_only=True)
class _AnyClips(ClipLength):
    """What clips of every kind of run are cut by."""

    fps: float = field(default=4.0, metadata=between(0.01, 1000, "1/s"))
    """Frame rate; faster recordings are subsampled by their timestamps."""
    transform: Literal["droid", "published", "squeeze"] = "droid"
    """Image transform: droid crops to an aspect ratio of 1.35 and squeezes, published crops the
    centre, squeeze uses the whole frame."""
    camera: str = "left"
    """Camera: left, right, wrist or a serial number."""
    links: Literal["inside", "all"] | None = None
    """Whether links in the data must stay inside the data set, or may lead anywhere (all, for your
    own links); default: as the data were indexed, else inside."""
    rlds_fps: float | None = field(default=None, metadata=between(0.1, 1000, "Hz"))
    """Control rate of an RLDS data set, which stores no timestamps; default: as the data were
    indexed, else 15 Hz."""
    max_reject_fraction: float = field(default=0.5, metadata=between(0, 1))
    """Maximum fraction of rejected episodes; above it the run stops."""


@dataclass(frozen=True, kw_only=True)
class _ViewClips(_AnyClips):
    """Clips of one or several views."""

    views: tuple[str, ...] = ()
    """Cameras that the model sees, the main one first, such as left,wrist; goals are images of the
    main one (empty: camera alone)."""

    def __post_init__(self) -> None:
        """Check that camera and views agree.

        Raises:
            ConfigError: An option is out of range, or the views contradict the camera.
        """
        super().__post_init__()
        _ = self.cameras

    @property
    def cameras(self) -> tuple[str, ...]:
        """Return the cameras that the model sees, the main one first."""
        return chosen_views(self.camera, self.views)


@dataclass(frozen=True, kw_only=True)
class ClipConfig(_AnyClips):
    """Clips of episodes that fit in memory."""

    cache: str = ""
    """Folder for decoded frames (empty: the default cache folder)."""


@dataclass(frozen=True, kw_only=True)
class ContactClipConfig(ClipConfig, _ViewClips):
    """Clips of episodes that fit in memory, with a minimum share of contacts."""

    actions: Literal["pose", "position"] = "pose"
    """Numbers of states and actions: pose (7, with rotation), or position (4: x, y, z and gripper)
    for an arm that never turns."""
    contact_share: float = field(default=0.0, metadata=between(0, 0.95))
    """Minimum share of clips in which the fingers hold or may touch an object, as the robot states
    tell; such clips are repeated until they have this share (0: every clip once)."""
    hindsight_share: float = field(default=0.0, metadata=between(0, 0.95))
    """Minimum share of clips that start with an object on the table, away from the fingers, whose
    pose hindsight tells; such clips are repeated until they have this share (0: every clip once).
    """
    more_data: tuple[str, ...] = ()
    """Further folders of training episodes, mixed with those of data. contact_share and
    hindsight_share apply to data alone."""
    more_shares: tuple[float, ...] = field(default=(), metadata=between(0.001, 0.999))
    """Share of all training clips for each folder of more_data; the rest are those of data. Clips
    of folders below their share are repeated; every clip occurs at least once."""
    keep_on: Literal["auto", "host", "device"] = "auto"
    """Where decoded frames, or tokens, stay during the training: in the host's memory, on the
    device, or on a CUDA device if they take at most half of its free memory (auto)."""

    def __post_init__(self) -> None:
        """Check that each further folder has a share.

        Raises:
            ConfigError: An option is out of range, or the shares do not fit the folders.
        """
        super().__post_init__()
        if len(self.more_data) != len(self.more_shares) or sum(self.more_shares) >= 1:
            raise ConfigError(
                f"more_data={list(self.more_data)} more_shares={list(self.more_shares)}; allowed: "
                "one share for each folder, with a sum below 1, which leaves the rest to data"
            )


@dataclass(frozen=True, kw_only=True)
class PostClipConfig(_ViewClips):
    """Clips of raw or prepared episodes of any size."""

    actions: Literal["pose", "position"] = "pose"
    """Numbers of states and actions: pose (7, with rotation), or position (4: x, y, z and gripper)
    for an arm that never turns."""
    state_frame: Literal["flange", "tcp"] = "flange"
    """Frame of the robot states: flange or tool centre point."""
    extrinsics: bool = False
    """Add a predictor token for the camera pose."""
    idle: Literal["keep", "drop"] = "keep"
    """Keep or drop clips with steps at which movement was not enabled."""
    make_data: int = field(default=0, metadata=between(0, 1_000_000, "episodes"))
    """Number of synthetic episodes to write to out/data and train on (0: use data)."""
    workers: int = field(default=2, metadata=between(1, 1024))
    """Number of decoding threads."""
