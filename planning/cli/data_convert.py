"""`worldmodel data convert`: write recorded episodes as a LeRobot data set."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from planning.cli.data_index import MapFile
from planning.errors import PlanError
from planning.plugins import is_own, load
from planning.ranges import between, changed_fields, check_fields, plugin
from worldmodel.errors import ConfigError

if TYPE_CHECKING:
    from worldmodel.data.episode import Episode


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `worldmodel data convert`."""

    root: str = ""
    """Folder of raw DROID, RLDS or LeRobot episodes (recordings of `collect` and `drive`), or of an
    index of them."""
    reader: str = field(default="", metadata=plugin("reader"))
    """Reader of a layout of your own: a function that yields an Episode for each recording in root=
    (empty: the layout is detected)."""
    out: str = "runs/lerobot"
    """Folder of the new LeRobot data set (v3.0); it must be missing, empty, or that of a
    stopped conversion, which the same command resumes."""
    fps: int = field(default=0, metadata=between(0, 1000, "Hz"))
    """Frame rate; faster recordings are subsampled by their timestamps (0: the recording's)."""
    camera: str = "left"
    """Camera that every episode must have; all cameras are written."""
    links: Literal["inside", "all"] = "inside"
    """Whether linked files must stay inside the data set, or may lead anywhere."""
    max_reject_fraction: float = field(default=0.5, metadata=between(0, 1))
    """Maximum fraction of rejected episodes; above it the command stops."""
    map: MapFile = field(default_factory=MapFile)
    workers: int = field(default=0, metadata=between(0, 1024))
    """Number of processes that index the data (0: one per core that this process may use)."""

    def __post_init__(self) -> None:
        check_fields(self)
        if is_own("reader", self.reader):
            raise ConfigError(
                f"reader={self.reader} has no effect: our own layouts are detected. Leave it out."
            )
        if self.reader:
            kept = ("root=", "out=", "fps=", "reader=", "max_reject_fraction=")
            unused = [x for x in changed_fields(self) if not x.startswith(kept)]
            if unused:
                raise ConfigError(
                    f"{' '.join(unused)} has no effect with reader={self.reader}. Leave it out."
                )


def own_episodes(options: Options) -> Iterable[Episode]:
    """Return the episodes of a user's reader.

    Raises:
        PlanError: It cannot be loaded, is not a function, or returns no iterable.
    """
    read = load("reader", options.reader)
    if not callable(read):
        raise PlanError(f"reader={options.reader} is not a function. It takes a folder's Path.")
    episodes: object = read(Path(options.root))
    if not isinstance(episodes, Iterable):
        raise PlanError(
            f"reader={options.reader} gives {type(episodes).__name__}. It must yield "
            "worldmodel.data.episode.Episode."
        )
    return episodes


def run(options: Options) -> int:
    """Convert the episodes and print the summary."""
    from planning.apps.view_data import open_data
    from worldmodel.data.convert import convert, convert_episodes
    from worldmodel.data.convert_output import UNFINISHED, require_new
    from worldmodel.data.inspection import IndexOptions
    from worldmodel.data.readers.options import ReadOptions
    from worldmodel.processes import usable_cores

    if not options.root:
        raise ConfigError("root is empty. Give root=FOLDER, the folder of the episodes.")
    if options.reader:
        summary = convert_episodes(
            own_episodes(options),
            Path(options.out),
            fps=options.fps,
            max_reject_fraction=options.max_reject_fraction,
        )
        print(json.dumps(summary, indent=2))
        return 0
    read = ReadOptions(
        camera=options.camera,
        links=options.links,
        rlds_fps=options.map.rlds_fps,
        columns=options.map,
    )
    workers = options.workers or usable_cores()
    out = Path(options.out)
    require_new(out)
    index = out / UNFINISHED / "index"
    manifest = open_data(options.root, index, IndexOptions(read=read), workers)
    manifest.check(options.max_reject_fraction)
    summary = convert(manifest, out, fps=options.fps)
    print(json.dumps(summary, indent=2))
    return 0
