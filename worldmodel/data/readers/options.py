"""Reader options, shared by all layouts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How strictly an episode is inspected."""

    camera: str = "left"
    """Camera to read clips from: `left`, `right`, `wrist` or a serial number."""
    check_all_cameras: bool = True
    """Whether the videos of all cameras must be complete, or only the chosen camera's."""
    decode: bool = True
    """Whether inspection decodes every frame or only counts packets."""
    max_missing_frames: int = 1
    """Number of frames that may be missing at the end of a video (in DROID often one); their steps
    are dropped."""
    inspect: bool = True
    """Whether to inspect videos; False trusts an index that did."""
