"""Record of one decision about skills, as written to `episodes.jsonl` for the report.

Shapes: N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Why = Literal["plan", "reached", "no better plan", "budget"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An imagined sequence of skills."""

    skills: tuple[str, ...]
    """Names of the skills in order."""
    targets: tuple[int | None, ...]
    """Index of the object of each skill; None if its position is a parameter."""
    params: tuple[dict[str, float], ...]
    """Parameters of each skill [m, rad]."""
    variants: tuple[int, ...]
    """Index of each skill's variant in `Skill.variants`."""
    energy: float
    """Energy of the imagined end; NaN if nothing was imagined."""
    path_m: tuple[tuple[float, float, float], ...] = ()
    """Positions of the fingertips after each action [m], base frame; empty for all but the best."""

    def as_row(self) -> dict[str, object]:
        """Return JSON serialisable values, rounded to 0.1 mm."""
        row: dict[str, object] = {
            "skills": list(self.skills),
            "targets": list(self.targets),
            "params": [{k: round(v, 4) for k, v in part.items()} for part in self.params],
            "variants": list(self.variants),
            "energy": finite(self.energy),
        }
        if self.path_m:
            row["path_m"] = [[round(v, 4) for v in place] for place in self.path_m]
        return row


@dataclass(frozen=True, kw_only=True)
class SkillRecord:
    """One decision: what was seen, what was imagined, and what was chosen."""

    why: Why
    """`plan` if skills were chosen; otherwise why the arm goes home."""
    executed: int
    """Number of actions before the next decision."""
    step: int = 0
    """Index of the first of these actions in the episode."""
    energy_now: float
    """Energy of the current frame."""
    rest_energy: float = float("nan")
    """Energy imagined for going home at once; NaN if nothing was imagined."""
    chosen: Candidate | None = None
    """The chosen skills; None for going home."""
    candidates: Sequence[Candidate] = ()
    """Imagined skills in order of energy, the best few with their paths."""
    objects: Sequence[tuple[float, float, float, float | None]] = ()
    """Decoded objects now: x, y, z [m] and yaw [rad], None where it is unknown."""
    goals: Sequence[tuple[float, float, float, float | None]] = ()
    """Decoded objects of the goal image."""
    imagined_ND: NDArray[np.float16] | None = None
    """Imagined tokens at the end of the chosen skills; not in the JSON row."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Duration of each part [s]: encode, expand, unroll, energy, other."""

    def as_row(self) -> dict[str, object]:
        """Return JSON serialisable values."""
        return {
            "step": self.step,
            "why": self.why,
            "executed": self.executed,
            "energy_now": finite(self.energy_now),
            "rest_energy": finite(self.rest_energy),
            "chosen": None if self.chosen is None else self.chosen.as_row(),
            "objects": [_pose(pose) for pose in self.objects],
            "goals": [_pose(pose) for pose in self.goals],
            "seconds": {name: round(value, 4) for name, value in self.seconds.items()},
            "candidates": [candidate.as_row() for candidate in self.candidates],
        }


def finite(value: float) -> float | None:
    """Return a rounded number; None for NaN and infinity, which JSON lacks."""
    return round(value, 6) if np.isfinite(value) else None


def _pose(pose: tuple[float, float, float, float | None]) -> list[float | None]:
    return [None if value is None else round(value, 4) for value in pose]
