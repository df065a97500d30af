"""Options of `worldmodel doctor`; see `planning.options`."""

from __future__ import annotations

from dataclasses import dataclass, field

from planning.ranges import between, check_fields
from planning.serve_options import RemoteOptions


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """Options of `worldmodel doctor`."""

    address: str = ""
    """Host name or IP address of a Franka's control box to reach (empty: none)."""
    camera: str = ""
    """Camera to read an image from: index, device path, video, folder, URL or realsense[:SERIAL]
    (empty: list the devices)."""
    remote: RemoteOptions = field(default_factory=RemoteOptions)
    """Plan server to reach; with one, this machine needs no torch."""
    free_gb: float = field(default=5.0, metadata=between(0, 1e6, "GB"))
    """Free space that the cache and the current folder need."""
    probe_s: float = field(default=60.0, metadata=between(1, 3600, "s"))
    """Time limit of each check that loads a library or waits for a device."""
    json: bool = False
    """Print one JSON object for programs in place of lines for people."""
    out: str = ""
    """Output folder for summary.json (empty: none)."""

    def __post_init__(self) -> None:
        check_fields(self)
