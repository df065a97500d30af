"""`worldmodel data index`: what of a data set can be used, and why the rest cannot."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldmodel.data.index import IndexOptions, build_index
from worldmodel.data.readers.droid import ReadOptions
from worldmodel.errors import ConfigError


def _text(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(kw_only=True)
class Options:
    """Options of `worldmodel data index`."""

    root: str = _text("", "folder of raw DROID, RLDS or LeRobot episodes")
    out: str = _text("runs/index", "folder of manifest.jsonl, rejects.jsonl and summary.json")
    camera: str = _text("left", "left, right, wrist or a serial number")
    check: str = _text("all", "all: every camera's video must be whole; chosen: only that one's")
    verify: str = _text("decode", "decode: every frame; packets: count only (faster)")
    max_missing_frames: int = _text(1, "frames a video may lack at its end")
    failures: str = _text("keep", "keep or drop failed episodes")
    min_seconds: float = _text(0.0, "shorter episodes are rejected (the paper: 4)")
    extrinsics: str = _text("any", "required: reject episodes without the camera's poses")
    frame_size: str = _text("majority", "majority: all frames of the commonest size; any")
    workers: int = _text(0, "processes (0: one per core)")


CHOICES = {
    "check": ("all", "chosen"),
    "verify": ("decode", "packets"),
    "failures": ("keep", "drop"),
    "extrinsics": ("any", "required"),
    "frame_size": ("majority", "any"),
}


def run(options: Options) -> int:
    """Index a data set and print the summary."""
    if not options.root:
        raise ConfigError("root is empty: say root=DIR, the folder of the episodes")
    for name, allowed in CHOICES.items():
        if getattr(options, name) not in allowed:
            raise ConfigError(f"{name}={getattr(options, name)!r}; allowed: {', '.join(allowed)}")
    read = ReadOptions(
        camera=options.camera,
        check_all_cameras=options.check == "all",
        decode=options.verify == "decode",
        max_missing_frames=options.max_missing_frames,
    )
    what: Any = {"failures": options.failures, "frame_size": options.frame_size}
    what["extrinsics"] = options.extrinsics
    index = IndexOptions(read=read, min_seconds=options.min_seconds, **what)
    workers = options.workers or os.cpu_count() or 1
    summary = build_index(Path(options.root), Path(options.out), index, workers=workers)
    print(json.dumps(summary, indent=2))
    return 0
