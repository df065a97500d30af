"""How strictly readers of all layouts inspect an episode."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How strictly episodes are inspected."""

    camera: str = "left"
    """Camera that clips are read from: `left`, `right`, `wrist` or a serial number."""
    check_all_cameras: bool = True
    """Whether the videos of all cameras must be complete, or only that of the chosen one."""
    decode: bool = True
    """Whether inspection decodes every frame, or only counts packets."""
    max_missing_frames: int = 1
    """Frames that a video may lack at its end (DROID's are often one short); their steps are
    dropped."""
    inspect: bool = True
    """Whether videos are inspected; False trusts an index that did."""
