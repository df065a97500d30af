"""`worldmodel segment`: follow the objects of DAVIS's videos by a frozen encoder's tokens."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from planning.errors import PlanError
from planning.options import Device, Precision
from planning.ranges import check_fields
from worldmodel.perception.segmentation.options import PropagationOptions


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `worldmodel segment`; the defaults are V-JEPA 2.1's best for DAVIS."""

    data: str
    """Folder of DAVIS 2017 with JPEGImages, Annotations and ImageSets."""
    model: str = "vjepa2.1-vitl"
    """Encoder: a published name, a file, a run's folder, or hf:NAME for DINOv2."""
    videos: str = ""
    """List of sequences (default: ImageSets/2017/val.txt in data)."""
    resolution: str = "480p"
    """Folder of the frames in JPEGImages, and of the masks in Annotations."""
    propagation: PropagationOptions = field(default_factory=PropagationOptions)
    device: Device = "auto"
    """Device of the encoder."""
    precision: Precision = "auto"
    """Data type of the weights (auto: bfloat16 on CUDA devices that have it, else float32)."""
    out: str = "runs/segment"
    """Output folder for summary.json and the masks; a stopped run resumes from its
    measured.jsonl."""

    def __post_init__(self) -> None:
        check_fields(self)


def run(options: Options) -> int:
    """Segment all sequences, then print and write J and F."""
    from planning.apps.own_encoder import open_encoder
    from worldmodel.atomic_io import write_json
    from worldmodel.perception.segmentation.videos import find_sequences, segment_all

    root, out = Path(options.data), Path(options.out)
    if not root.is_dir():
        raise PlanError(f"data={options.data!r} is not a folder. Give data=FOLDER of DAVIS 2017.")
    names = Path(options.videos) if options.videos else root / "ImageSets" / "2017" / "val.txt"
    sequences, rejected = find_sequences(root, names, options.resolution)
    encoder = open_encoder(options.model, options.device, options.precision)
    found = segment_all(encoder, sequences, rejected, options.propagation, out)
    j, f = found.mean()
    facts = {"J": j, "F": f, "J&F": (j + f) / 2, "scores": found.scores}
    write_json(
        out / "summary.json", {"options": asdict(options), **facts, "rejected": found.rejected}
    )
    for name, reason in found.rejected.items():
        print(f"rejected {name}: {reason}")
    objects = sum(len(rows) for rows in found.scores.values())
    print(
        f"{len(found.scores)} sequences, {objects} objects: J&F {50 * (j + f):.1f}, "
        f"J {100 * j:.1f}, F {100 * f:.1f}"
    )
    print(f"masks: {out / 'masks'}, scores: {out / 'summary.json'}")
    return 0
