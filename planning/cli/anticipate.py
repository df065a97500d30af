"""`worldmodel anticipate`: score action anticipation on EPIC-KITCHENS-100."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from planning.errors import PlanError
from planning.options import Device, Precision
from planning.ranges import between, check_fields

if TYPE_CHECKING:
    from worldmodel.perception.anticipation.evaluation import AnticipationScores

TRAIN, VALIDATION = "EPIC_100_train.csv", "EPIC_100_validation.csv"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `worldmodel anticipate`."""

    annotations: str
    """Folder with EPIC_100_train.csv, which gives the classes, and EPIC_100_validation.csv."""
    videos: str
    """Folder with P01/videos/P01_01.MP4 or P01/P01_01.MP4, and so on."""
    probe: str
    """Published file of anticipation probes, for example ek100-vitl-256.pt."""
    model: str = "vjepa2-vitl"
    """Published name or file with the target encoder and the masked predictor of the probe."""
    num_heads: int | None = field(default=None, metadata=between(1, 1024))
    """Number of attention heads of the encoder (default: that of the published model)."""
    predictor_heads: int | None = field(default=None, metadata=between(1, 1024))
    """Number of attention heads of the predictor (default: that of the published model)."""
    probe_heads: int = field(default=16, metadata=between(1, 1024))
    """Number of attention heads of the probe."""
    image_size: int | None = field(default=None, metadata=between(16, 4096, "px"))
    """Height and width of the input images (default: those of the published model, else 256)."""
    num_frames: int = field(default=32, metadata=between(2, 4096, "frames"))
    """Number of frames of a clip."""
    fps: float = field(default=8.0, metadata=between(0.01, 1000, "Hz"))
    """Sampling rate of a clip."""
    parts: Literal["both", "encoder", "predictor"] | None = None
    """Whether the probe reads the encoder's tokens, the predicted ones, or both (default: what it
    was trained on by `anticipate train`, else both)."""
    seconds: float = field(default=1.0, metadata=between(0, 3600, "s"))
    """Gap between the end of the clip and the action."""
    as_released: bool = False
    """Whether the gap ends at the action's stop, as in the released evaluation, not at its start;
    most clips then show the action itself."""
    max_clips: int | None = field(default=None, metadata=between(1, 10_000_000))
    """Number of clips to score, the first ones (default: all)."""
    batch_size: int = field(default=2, metadata=between(1, 4096, "clips"))
    """Number of clips per batch."""
    device: Device = "auto"
    """Device of the model."""
    precision: Precision = "auto"
    """Data type of the weights (auto: bfloat16 on CUDA devices that have it, else float32)."""
    out: str = "runs/anticipate"
    """Output folder for summary.json; a stopped run resumes from its scored.jsonl."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name, value in (("annotations", self.annotations), ("videos", self.videos)):
            if not value:
                raise PlanError(f"{name} is empty. Give {name}=FOLDER.")


def run(options: Options) -> int:
    """Score all probes of the file, then print and write the scores."""
    from worldmodel.atomic_io import write_json

    found = _score(options)
    rows = [{t: asdict(recall) for t, recall in recalls.items()} for recalls in found.recalls]
    summary = {
        "options": asdict(options),
        "probes": rows,
        "rejected": found.rejected,
        "actions_unknown_in_training": len(found.unknown),
        "unknown": found.unknown,
    }
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "summary.json", summary)
    for i, recalls in enumerate(found.recalls):
        for target, recall in recalls.items():
            print(
                f"probe {i} {target:6s} mean class recall@5 {recall.mean_class_recall:5.1f} % "
                f"({recall.num_clips} clips, {recall.num_classes} classes)"
            )
    for name, reason in found.rejected.items():
        print(f"rejected {name}: {reason}")
    if found.unknown:
        count = len(found.unknown)
        print(f"{count} actions have a verb and noun that training does not have together")
    print(f"{len(found.rejected)} rejected. All scores: {out / 'summary.json'}")
    return 0


def _score(options: Options) -> AnticipationScores:
    from planning.apps.anticipate import load_networks
    from worldmodel.perception.anticipation.epic_kitchens import (
        AnticipationClip,
        class_order,
        known_actions,
        read_actions,
    )
    from worldmodel.perception.anticipation.evaluation import AnticipationScores, score_probes
    from worldmodel.perception.anticipation.fresh_clips import name_of
    from worldmodel.perception.anticipation.pipeline import FutureConfig, trained_parts

    folder = Path(options.annotations)
    rejected: dict[str, str] = {}
    classes = class_order(read_actions(folder / TRAIN, rejected))
    annotated = read_actions(folder / VALIDATION, rejected)
    actions = known_actions(annotated, classes)
    networks, size = load_networks(
        options.model,
        Path(options.probe),
        heads=(options.num_heads, options.predictor_heads, options.probe_heads),
        image_size=options.image_size,
        classes=classes,
        future=FutureConfig(
            fps=options.fps, parts=options.parts or trained_parts(Path(options.probe))
        ),
        device=options.device,
        precision=options.precision,
    )
    clip = AnticipationClip(
        num_frames=options.num_frames,
        fps=options.fps,
        seconds=(options.seconds, options.seconds),
        as_released=options.as_released,
    )
    found = score_probes(
        networks,
        actions[: options.max_clips],
        classes,
        Path(options.videos),
        clip,
        image_size=(size, size),
        batch_size=options.batch_size,
        keep=Path(options.out) / "scored.jsonl",
    )
    pairs = set(classes.actions)
    unknown = [name_of(a) for a in annotated if (a.verb, a.noun) not in pairs]
    return AnticipationScores(found.recalls, rejected | found.rejected, unknown)
