"""`worldmodel convert`: convert a checkpoint to our safetensors or a Hugging Face folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from planning.cli.summary_beside import summary_path, write_summary
from planning.errors import PlanError
from planning.ranges import between, check_fields


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `worldmodel convert`."""

    source: str
    """Published name, checkpoint file, or Hugging Face folder; with layout=huggingface also a run's
    folder or our file."""
    out: str = field(metadata={"file": True})
    """Safetensors file to write, or with layout=huggingface a folder; OUT.json records what was
    kept."""
    layout: Literal["own", "huggingface"] = "own"
    """Layout to write: own (one safetensors file with configuration and specs) or huggingface (a
    folder that transformers.IJepaModel reads; I-JEPA encoders of square images)."""
    part: Literal["", "encoder", "target_encoder", "probe"] = ""
    """Part of the source to keep (empty: the published choice)."""
    encoder: str = ""
    """Name or file of the encoder, if the source has only a predictor."""
    num_heads: int = field(default=0, metadata=between(0, 256))
    """Number of attention heads of the encoder or probe (0: as published for its size)."""
    predictor_heads: int = field(default=0, metadata=between(0, 256))
    """Number of attention heads of the predictor (0: as published for its size)."""
    image_size: int = field(default=0, metadata=between(0, 4096, "px"))
    """Side of the input images (0: as published, else 256)."""
    num_frames: int = field(default=0, metadata=between(0, 1024, "frames"))
    """Number of frames per clip (0: as published, else 64)."""
    step_seconds: float = field(default=0.25, metadata=between(0.001, 60, "s"))
    """Duration of an action."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Data type of the written weights."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.source or not self.out:
            raise PlanError(
                "source or out is empty. Give source=NAME_OR_FILE out=FILE.safetensors."
            )


def run(options: Options) -> int:
    """Convert the checkpoint and print what was kept and dropped."""
    from worldmodel.checkpoints.convert import ConvertConfig, convert

    out = Path(options.out)
    where = summary_path(out, "convert")
    config = ConvertConfig(
        part=options.part,
        encoder=options.encoder,
        num_heads=options.num_heads,
        predictor_heads=options.predictor_heads,
        image_size=options.image_size,
        num_frames=options.num_frames,
        step_seconds=options.step_seconds,
        dtype=options.dtype,
    )
    done = convert(options.source, out, config, options.layout)
    files = [done.path] if done.path.is_file() else list(done.path.iterdir())
    size = sum(file.stat().st_size for file in files)
    summary = asdict(done) | {
        "source": options.source,
        "out": str(done.path),
        "bytes": size,
        "step_seconds": options.step_seconds,
        "layout": options.layout,
    }
    del summary["path"]
    write_summary(where, "convert", summary)
    print(f"{done.kind}: {done.path} ({size / 1e6:.1f} MB)")
    print(f"kept: {', '.join(done.kept) or 'only the configuration of the source'}")
    print(f"dropped: {', '.join(done.dropped) or 'nothing'}")
    return 0
