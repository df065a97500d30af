"""`worldmodel data view`: show cameras, states and actions of a data set, with a verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from planning.cli.data_index import MapFile
from planning.ranges import between, check_fields
from worldmodel.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `worldmodel data view`."""

    root: str = ""
    """Folder of raw DROID, RLDS or LeRobot episodes, or of an index of them."""
    out: str = "runs/view"
    """Output folder for data.html and, unless root is an index, for the index."""
    episodes: int = field(default=3, metadata=between(1, 100, "episodes"))
    """Number of episodes to show, evenly spaced over the data set."""
    camera: str = "left"
    """Camera that every episode must have."""
    links: Literal["inside", "all"] = "inside"
    """Whether linked files must stay inside the data set, or may lead anywhere."""
    map: MapFile = field(default_factory=MapFile)
    workers: int = field(default=0, metadata=between(0, 1024))
    """Number of processes that index the data (0: one per core that this process may use)."""

    def __post_init__(self) -> None:
        check_fields(self)


def run(options: Options) -> int:
    """Write the page; print the verdict and the page's path."""
    from planning.apps.view_data import open_data, view_data
    from worldmodel.data.inspection import IndexOptions
    from worldmodel.data.readers.options import ReadOptions
    from worldmodel.processes import usable_cores

    if not options.root:
        raise ConfigError("root is empty. Give root=FOLDER, the folder of the episodes.")
    read = ReadOptions(
        camera=options.camera,
        links=options.links,
        rlds_fps=options.map.rlds_fps,
        columns=options.map,
    )
    out = Path(options.out)
    workers = options.workers or usable_cores()
    manifest = open_data(options.root, out / "index", IndexOptions(read=read), workers)
    for text, good in view_data(manifest, out / "data.html", options.episodes):
        print(f"{'note' if good is None else 'yes' if good else 'NO':4s} {text}")
    print(out / "data.html")
    return 0
