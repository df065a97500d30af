"""`worldmodel convert`: a published checkpoint becomes one of our safetensors files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from worldmodel.checkpoints.convert import ConvertConfig, convert
from worldmodel.errors import ConfigError


def _text(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class Options:
    """Options of `worldmodel convert`."""

    source: str = _text("", "published name, checkpoint file, or Hugging Face folder")
    out: str = _text("", "the safetensors file to write; a .json beside it says what was done")
    part: str = _text("", "encoder, target_encoder or probe (default: as published)")
    encoder: str = _text("", "name or file of the encoder, if the source has only a predictor")
    num_heads: int = _text(0, "of the encoder or probe (default: of the published size)")
    predictor_heads: int = _text(0, "of the predictor (default: of the published size)")
    image_size: int = _text(0, "side of the input [px] (default: as published, else 256)")
    num_frames: int = _text(0, "frames of a clip (default: as published, else 64)")
    step_seconds: float = _text(0.25, "time that one action spans [s]")
    dtype: str = _text("float32", "float32 or bfloat16, of the file")


def run(options: Options) -> int:
    """Convert; print what was kept and dropped."""
    if not options.source or not options.out:
        raise ConfigError("give source=NAME_OR_FILE out=FILE.safetensors")
    values = asdict(options)
    source, out = values.pop("source"), Path(values.pop("out"))
    done = convert(source, out, ConvertConfig(**values))
    summary = {
        "source": source,
        "out": str(done.path),
        "kind": done.kind,
        "kept": done.kept,
        "dropped": done.dropped,
        "bytes": done.path.stat().st_size,
        "step_seconds": options.step_seconds,
    }
    out.with_suffix(".json").write_text(json.dumps(summary, indent=2), encoding="utf-8")
    print(f"{done.kind}: {done.path} ({summary['bytes'] / 1e6:.1f} MB)")
    print(f"kept: {', '.join(done.kept) or 'nothing of the source but its configuration'}")
    print(f"dropped: {', '.join(done.dropped) or 'nothing'}")
    return 0
