"""`worldmodel data prepare`: cut episodes once to the model's input, or store its features."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldmodel.checkpoints.encoders import frame_encoder, open_encoder
from worldmodel.checkpoints.io import resolve_device
from worldmodel.data.index import open_manifest
from worldmodel.data.prepare import PrepareOptions, encoder_hash, prepare
from worldmodel.data.transforms import Preprocess
from worldmodel.errors import ConfigError
from worldmodel.models.config import Convention


def _text(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(kw_only=True)
class Options:
    """Options of `worldmodel data prepare`."""

    index: str = _text("runs/index", "folder that `worldmodel data index` wrote")
    out: str = _text("runs/prepared", "folder of the shards; a second run goes on there")
    what: str = _text("frames", "frames or features")
    codec: str = _text("jpeg", "of frames: jpeg (quality 95) or raw (exact)")
    image_size: int = _text(256, "pixels of a side (features: the encoder's)")
    transform: str = _text("droid", "droid, published or squeeze")
    fps: float = _text(4.0, "frames a second by the recorded timestamps")
    state_frame: str = _text("flange", "flange or tcp")
    extrinsics: bool = _text(False, "also store the camera's pose at each frame")
    episodes_per_shard: int = _text(16, "")
    max_reject_fraction: float = _text(0.5, "stop when the index rejected more than this share")
    encoder: str = _text("", "features: a model's name or file")
    device: str = _text("auto", "auto, cpu or cuda")


def run(options: Options) -> int:
    """Prepare and print the summary."""
    allowed = {
        "what": ("frames", "features"),
        "codec": ("jpeg", "raw"),
        "state_frame": ("flange", "tcp"),
    }
    for name, values in allowed.items():
        if getattr(options, name) not in values:
            raise ConfigError(f"{name}={getattr(options, name)!r}; allowed: {', '.join(values)}")
    manifest = open_manifest(Path(options.index))
    manifest.check(options.max_reject_fraction)
    encode, digest, size = None, "", (options.image_size, options.image_size)
    if options.what == "features":
        encoder = open_encoder(options.encoder, image_size=options.image_size)
        pairs: Any = encoder.config.tubelet_size
        model = frame_encoder(encoder, Convention(frames_per_token=pairs))
        encode, digest = model.to(resolve_device(options.device)).encode, encoder_hash(encoder)
        size = model.image_size
    transform: Any = options.transform
    plan: Any = {
        "fps": options.fps,
        "image_size": size[0],
        "transform": options.transform,
        "what": options.what,
        "codec": options.codec,
        "state_frame": options.state_frame,
        "episodes_per_shard": options.episodes_per_shard,
        "encoder_hash": digest,
        "extrinsics": options.extrinsics,
    }
    summary = prepare(
        manifest, Path(options.out), PrepareOptions(**plan), Preprocess(transform, size), encode
    )
    print(json.dumps(summary, indent=2))
    return 0
