"""Options of `worldmodel bench planning`; see `planning.options`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from planning.errors import PlanError
from planning.ranges import between, check_fields

Size = Literal["small", "medium", "ac-vitl", "ac"]


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Options of `worldmodel bench planning`."""

    quick: bool = False
    """Measure only small and medium sizes and horizons up to 4, with two repeats (about a
    minute)."""
    sizes: list[Size] = field(default_factory=lambda: ["small", "medium", "ac"])
    """Predictor sizes; small is the embedded model, ac the published predictor for ViT-g."""
    horizons: list[int] = field(default_factory=lambda: [1, 2, 4, 8], metadata=between(1, 16))
    """Planning horizons, in steps."""
    samples: int = field(default=0, metadata=between(0, 1_000_000))
    """Number of plans per iteration (0: chosen by predictor size)."""
    iterations: int = field(default=2, metadata=between(1, 10_000))
    """Number of iterations per search."""
    repeats: int = field(default=3, metadata=between(1, 1000))
    """Number of interleaved repeats, of which the median is reported."""
    pairs: int = field(default=6, metadata=between(1, 1000))
    """Number of image pairs for the comparison at equal energy."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Device of the models."""
    memory_gb: float = field(default=0.0, metadata=between(0, 10_000, "GB"))
    """Memory for plans evaluated at once (0: 4 GB, or half of the free memory on CUDA)."""
    out: str = "runs/bench_planning"
    """Output folder for summary.json and planning.png; a stopped run resumes from its
    rows.jsonl."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("sizes", "horizons"):
            if not getattr(self, name):
                raise PlanError(f"{name}=[] is empty. Name at least one, or leave it out.")
        if not self.quick:
            return
        usual = {"sizes": ["small", "medium", "ac"], "horizons": [1, 2, 4, 8]}
        for name, value in {**usual, "repeats": 3, "pairs": 6}.items():
            if getattr(self, name) != value:
                raise PlanError(f"{name} has no effect with quick=true. Leave one of them out.")

    def resolved(self) -> BenchOptions:
        """Options with the values implied by quick=true."""
        if not self.quick:
            return self
        return dataclasses.replace(
            self, quick=False, sizes=["small", "medium"], horizons=[1, 2, 4], repeats=2, pairs=1
        )
