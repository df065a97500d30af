"""`worldmodel data index`: list usable episodes and rejection reasons."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from planning.options import between, check_fields
from worldmodel.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `worldmodel data index`."""

    root: str = ""
    """Folder of raw DROID, RLDS or LeRobot episodes."""
    out: str = "runs/index"
    """Output folder for manifest.jsonl, rejects.jsonl and summary.json."""
    camera: str = "left"
    """Camera of the episodes: left, right, wrist or a serial number."""
    check: Literal["all", "chosen"] = "all"
    """Videos that must be complete: those of all cameras, or only the chosen camera's."""
    verify: Literal["decode", "packets"] = "decode"
    """How videos are checked: decode every frame, or only count packets, which is faster."""
    max_missing_frames: int = field(default=1, metadata=between(0, 1000, "frames"))
    """Frames that a video may lack at its end; the steps without a picture are dropped."""
    failures: Literal["keep", "drop"] = "keep"
    """Whether failed episodes are usable."""
    min_seconds: float = field(default=0.0, metadata=between(0, 86_400, "s"))
    """Shortest usable episode; V-JEPA 2-AC used 4 s."""
    extrinsics: Literal["any", "required"] = "any"
    """Whether episodes without the camera's poses are rejected."""
    frame_size: Literal["majority", "any"] = "majority"
    """Usable frame sizes: only the most frequent one, or any."""
    workers: int = field(default=0, metadata=between(0, 1024))
    """Number of processes; 0 takes one for each core."""

    def __post_init__(self) -> None:
        check_fields(self)


def run(options: Options) -> int:
    """Index a data set and print the summary."""
    from worldmodel.data.index import IndexOptions, build_index
    from worldmodel.data.readers.options import ReadOptions

    if not options.root:
        raise ConfigError("root is empty. Give root=FOLDER, the folder of the episodes.")
    index = IndexOptions(
        read=ReadOptions(
            camera=options.camera,
            check_all_cameras=options.check == "all",
            decode=options.verify == "decode",
            max_missing_frames=options.max_missing_frames,
        ),
        failures=options.failures,
        min_seconds=options.min_seconds,
        extrinsics=options.extrinsics,
        frame_size=options.frame_size,
    )
    workers = options.workers or os.cpu_count() or 1
    summary = build_index(Path(options.root), Path(options.out), index, workers=workers)
    print(json.dumps(summary, indent=2))
    return 0
