"""`worldmodel surprise`: measure surprise on pairs of possible and impossible videos."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from planning.errors import PlanError
from planning.options import Device, Precision
from planning.ranges import between, check_fields

STEPS = {"intphys": 2, "intphys2": 10, "grasp": 10, "inflevel": 5}
"""Published frame steps."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `worldmodel surprise`."""

    benchmark: Literal["intphys", "intphys2", "grasp", "inflevel"]
    """Layout of the folder, as the set's authors publish it."""
    data: str
    """Folder of the set: for IntPhys the one with `dev`, for GRASP with `level2`, for IntPhys 2
    `Main` or `Debug`."""
    pairs: str = ""
    """CSV file of pairs; InfLevel only."""
    model: str = "vjepa2-vitl"
    """Published name or file with encoder, target encoder and masked predictor, or the folder of a
    run of `worldmodel pretrain`. To compare: hf:NAME of VideoMAE, whose decoder predicts pixels, or
    of DINOv2, whose last frame is taken for the prediction."""
    num_heads: int | None = field(default=None, metadata=between(1, 1024))
    """Number of attention heads of the encoder (default: that of the published model)."""
    predictor_heads: int | None = field(default=None, metadata=between(1, 1024))
    """Number of attention heads of the predictor (default: that of the published model)."""
    image_size: int | None = field(default=None, metadata=between(16, 4096, "px"))
    """Height and width of the input images (default: those of the model or run, else 256)."""
    num_frames: int = field(default=16, metadata=between(2, 4096, "frames"))
    """Number of frames of a window."""
    contexts: tuple[int, ...] = field(default=(), metadata=between(1, 4096, "frames"))
    """Numbers of frames that the encoder sees (default: 1, 2, 3, 4 and 5 eighths of a window)."""
    stride: int = field(default=2, metadata=between(1, 4096, "frames"))
    """Number of frames from one window to the next."""
    step: int | None = field(default=None, metadata=between(1, 1000, "frames"))
    """Every step-th frame is used (default: as published, 2 for IntPhys, 5 for InfLevel, else
    10)."""
    growing_start: bool = False
    """Whether shorter contexts on the first window count too, as published for IntPhys 2."""
    as_released: bool = False
    """Whether to reproduce the errors of the released evaluation: masks for 224 px, short videos
    padded with zeros, pairs of IntPhys matched by sums over pixels."""
    batch_size: int = field(default=8, metadata=between(1, 4096, "windows"))
    """Number of windows per batch."""
    pictures: int = field(default=8, metadata=between(0, 100_000))
    """Number of pairs to draw, the first ones of the set."""
    device: Device = "auto"
    """Device of the model."""
    precision: Precision = "auto"
    """Data type of the weights (auto: bfloat16 on CUDA devices that have it, else float32)."""
    out: str = "runs/surprise"
    """Output folder for summary.json, pairs.json and the pictures; a stopped run resumes from its
    measured.jsonl."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.contexts and self.num_frames < 8:
            raise PlanError(
                f"num_frames={self.num_frames} is too short for the default contexts, eighths of a "
                "window. Give 8 or more frames, or contexts=[...]."
            )
        if bool(self.pairs) != (self.benchmark == "inflevel"):
            raise PlanError(
                f"pairs={self.pairs!r} with benchmark={self.benchmark}. Give pairs=FILE.csv with "
                "benchmark=inflevel, and leave it out otherwise."
            )


def run(options: Options) -> int:
    """Measure, score, draw and print the scores of each property."""
    from planning.apps.surprise import (
        draw,
        load_networks,
        read_set,
        require_predictor,
        score,
        share_interval,
        write,
    )
    from worldmodel.perception.surprise.compared import ComparedModel
    from worldmodel.perception.surprise.measure import SurpriseConfig
    from worldmodel.perception.surprise.pair_surprise import PairOptions, measure_pairs

    require_predictor(options.model)
    data, out = Path(options.data), Path(options.out)
    if not data.is_dir():
        raise PlanError(f"data={options.data!r} is not a folder. Give data=FOLDER.")
    eighths = tuple(options.num_frames * k // 8 for k in (1, 2, 3, 4, 5))
    config = SurpriseConfig(
        num_frames=options.num_frames,
        contexts=options.contexts or eighths,
        stride=options.stride,
        growing_start=options.growing_start,
        as_released=options.as_released,
    )
    reading = PairOptions(
        step=options.step or STEPS[options.benchmark],
        transform="squeeze" if options.benchmark == "inflevel" else "center_crop",
        batch_size=options.batch_size,
    )
    found = read_set(options.benchmark, data, Path(options.pairs), as_released=options.as_released)
    model, size = load_networks(
        options.model,
        heads=(options.num_heads, options.predictor_heads),
        image_size=options.image_size,
        num_frames=options.num_frames,
        device=options.device,
        precision=options.precision,
    )
    if isinstance(model, ComparedModel):
        config = model.adapted(config)
    measured = measure_pairs(
        model, found, config, reading, (size, size), keep=out / "measured.jsonl"
    )
    scores = score(measured, config)
    write(out, measured, scores, asdict(options) | asdict(config) | asdict(reading))
    draw(out, measured, config, reading, count=options.pictures, image_size=size)
    for setting, groups in scores.items():
        for group, m in groups.items():
            low, high = share_interval(m)
            print(
                f"{setting:12s} {group:20s} {m.num_pairs:5d} pairs: the impossible video surprises "
                f"more in {m.relative_mean:.1f} % [{low:.1f}, {high:.1f}], "
                f"AUROC {m.auroc_mean:.3f} " + "[{:.3f}, {:.3f}]".format(*m.auroc_mean_ci95)
            )
    for name, reason in measured.rejected.items():
        print(f"rejected {name}: {reason}")
    print(f"{len(measured.rejected)} rejected. All scores: {out / 'summary.json'}")
    return 0
