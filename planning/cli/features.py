"""`worldmodel features`: encoder features of videos into HDF5."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from worldmodel.checkpoints.io import load_any
from worldmodel.errors import ConfigError
from worldmodel.models.video_model import VideoModel
from worldmodel.models.world_model import WorldModel
from worldmodel.perception.features import FeatureConfig, write_features


def _text(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class Options:
    """Options of `worldmodel features`."""

    videos: str = _text("", "video file, or a folder of them")
    out: str = _text("", "HDF5 file; a run goes on where an earlier one stopped")
    model: str = _text("vjepa2-vitl", "published name, embedded name or safetensors file")
    num_frames: int = _text(16, "frames of a clip")
    fps: float = _text(4.0, "frames a second that are looked at")
    transform: str = _text("published", "published, droid or squeeze")
    dtype: str = _text("float16", "float16 or float32, as stored")
    device: str = _text("auto", "auto, cpu or cuda")


def run(options: Options) -> int:
    """Write features; print how much and what was rejected."""
    if not options.videos or not options.out:
        raise ConfigError("give videos=FILE_OR_FOLDER out=FILE.h5")
    config = FeatureConfig(
        num_frames=options.num_frames,
        fps=options.fps,
        transform=options.transform,
        dtype=options.dtype,
    )
    if not Path(options.videos).exists():
        raise ConfigError(f"videos={options.videos!r}: there is no such file or folder")
    model = load_any(options.model, options.device)
    if not isinstance(model, WorldModel | VideoModel):
        raise ConfigError(f"model={options.model!r} is no encoder: `worldmodel models` lists some")
    out = Path(options.out)
    result = write_features(Path(options.videos), out, model, options.model, config)
    summary = {**asdict(options), **asdict(result)}
    out.with_suffix(".json").write_text(json.dumps(summary, indent=2), encoding="utf-8")
    print(f"{out}: {result.clips} clips of {result.videos} videos ({result.skipped} done before)")
    for name, reason in result.rejected.items():
        print(f"rejected {name}: {reason}")
    return 0
