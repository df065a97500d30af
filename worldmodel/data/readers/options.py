"""Reader options, shared by all layouts."""

from __future__ import annotations

from dataclasses import dataclass, field

from worldmodel.checked import Checked, between
from worldmodel.data.column_map import ColumnMap
from worldmodel.data.files import Links

CONTROL_HZ = 15.0
"""Control rate of DROID [Hz]."""
UNCHECKED = "record_unchecked"
"""Note of a record whose file has no checksums."""
TIMESTAMPS_SAY = "timestamps_say_"
"""Beginning of the note of an RLDS record whose timestamps contradict `rlds_fps`."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions(Checked):
    """How strictly an episode is inspected."""

    camera: str = "left"
    """Camera to read clips from: `left`, `right`, `wrist` or a serial number."""
    views: tuple[str, ...] = ()
    """Cameras that an episode must have, the first of which is `camera`; none beside `camera` if
    empty."""
    check_all_cameras: bool = True
    """Whether the videos of all cameras must be complete, or only those of the chosen ones."""
    decode: bool = True
    """Whether inspection decodes every frame or only counts packets."""
    max_missing_frames: int = field(default=1, metadata=between(0, 1000, "frames"))
    """Number of frames that may be missing at the end of a video (in DROID often one); their steps
    are dropped."""
    inspect: bool = True
    """Whether to inspect videos; False trusts an index that did."""
    links: Links = "inside"
    """Whether linked files and HDF5 references must stay inside the data set (`inside`), or may
    lead anywhere (`all`, for sets that live on links by intent). Linked folders are followed."""
    rlds_fps: float = field(default=CONTROL_HZ, metadata=between(0.1, 1000, "Hz"))
    """Control rate of an RLDS data set [Hz]; DROID's is 15."""
    columns: ColumnMap = field(default_factory=ColumnMap)
    """Columns of a LeRobot or RLDS data set with names of its own."""

    def chooses(self, *names: str) -> bool:
        """Return whether a camera with one of these names is chosen by `camera` or `views`."""
        return not {self.camera, *self.views}.isdisjoint(names)

    def reads(self, *names: str) -> bool:
        """Return whether the frames of a camera with one of these names are read."""
        return self.check_all_cameras or self.chooses(*names)
