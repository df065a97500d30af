"""`worldmodel data index`: list usable episodes and rejection reasons."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from planning.cli.sharding import chosen_shard
from planning.ranges import between, check_fields
from planning.shard_options import ShardOptions
from worldmodel.data.column_map import ColumnMap
from worldmodel.errors import ConfigError
from worldmodel.specs import chosen_views


@dataclass(frozen=True, kw_only=True)
class MapFile(ColumnMap):
    """Columns of a LeRobot or RLDS data set with names of its own; map=FILE.yaml holds them."""

    rlds_fps: float = field(default=15.0, metadata=between(0.1, 1000, "Hz"))
    """Control rate of an RLDS data set, which stores no timestamps; DROID's is 15 Hz."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `worldmodel data index`."""

    root: str = ""
    """Folder of raw DROID, RLDS or LeRobot episodes."""
    out: str = "runs/index"
    """Output folder for manifest.jsonl, rejects.jsonl and summary.json."""
    camera: str = "left"
    """Camera to use: left, right, wrist or a serial number."""
    views: tuple[str, ...] = ()
    """Cameras that an episode must have, the main one first, such as left,wrist, in place of camera
    alone; their frames of a step must be captured within half a step."""
    check: Literal["all", "chosen"] = "all"
    """Require complete videos of all cameras, or only of the chosen ones."""
    verify: Literal["decode", "packets"] = "decode"
    """Check videos by decoding every frame, or by counting packets, which is faster."""
    max_missing_frames: int = field(default=1, metadata=between(0, 1000, "frames"))
    """Maximum number of frames missing at the end of a video; steps without a frame are dropped."""
    failures: Literal["keep", "drop"] = "keep"
    """Keep or drop failed episodes."""
    min_seconds: float = field(default=0.0, metadata=between(0, 86_400, "s"))
    """Minimum duration of a usable episode; V-JEPA 2-AC used 4 s."""
    extrinsics: Literal["any", "required"] = "any"
    """Whether camera poses are required for an episode to be usable."""
    frame_size: Literal["majority", "any"] = "majority"
    """Accept only the most frequent frame size, or any."""
    links: Literal["inside", "all"] = "inside"
    """Linked folders are always followed. Linked files, and arrays of HDF5 files that lie in other
    files, must stay inside the data set, or may lead anywhere (`all`, for your own links)."""
    map: MapFile = field(default_factory=MapFile)
    workers: int = field(default=0, metadata=between(0, 1024))
    """Number of processes (0: one per core that this process may use)."""
    part: ShardOptions = field(default_factory=ShardOptions)
    """Episodes that this run inspects."""

    def __post_init__(self) -> None:
        check_fields(self)


def run(options: Options) -> int:
    """Index a data set and print the summary."""
    from worldmodel.data.index import build_index
    from worldmodel.data.inspection import IndexOptions
    from worldmodel.data.readers.options import ReadOptions
    from worldmodel.processes import usable_cores

    if not options.root:
        raise ConfigError("root is empty. Give root=FOLDER, the folder of the episodes.")
    views = chosen_views(options.camera, options.views)
    index = IndexOptions(
        read=ReadOptions(
            camera=views[0],
            views=views if len(views) > 1 else (),
            check_all_cameras=options.check == "all",
            decode=options.verify == "decode",
            max_missing_frames=options.max_missing_frames,
            links=options.links,
            rlds_fps=options.map.rlds_fps,
            columns=options.map,
        ),
        failures=options.failures,
        min_seconds=options.min_seconds,
        extrinsics=options.extrinsics,
        frame_size=options.frame_size,
    )
    workers = options.workers or usable_cores()
    shard = chosen_shard(options.part)
    summary = build_index(
        Path(options.root), Path(options.out), index, workers=workers, shard=shard
    )
    print(json.dumps(summary, indent=2))
    return 0
