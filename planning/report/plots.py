"""Numbers of the plots in the report, drawn by its templates: axes with units, lines and points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planning.located import Located, pair_objects
from planning.rollout import Episode
from planning.skill_record import Candidate, SkillRecord

MAP_POINTS = 250
"""Maximum number of candidates in a map: the best ones, and an even choice of the others."""
CM_PER_M, DEG_PER_RAD = 100.0, math.degrees(1.0)
IN_DEGREES = ("grip_yaw", "turn", "contact_yaw", "yaw")
"""Parameters of skills that are angles; all others are lengths."""
FIRST_SHOWN = ("vx", "vy", "goal_x", "goal_y", "x", "y")
"""Parameters that a map shows if a skill has them, in order of preference."""
WORDS = {"vx": "displacement x", "vy": "displacement y"}
"""Parameters of skills that are not shown by their own names."""


def short(value: float | None, digits: int = 3) -> str:
    """Return a number with a few significant digits, without an exponent where it is legible."""
    if value is None or not math.isfinite(value):
        return "unknown"
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        whole = max(digits, len(str(int(abs(value)))))
        text = f"{value:.{whole}g}"
        return f"{float(text):.10f}".rstrip("0").rstrip(".") if "e" in text else text
    return f"{value:.{digits}g}"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis of a plot."""

    label: str
    low: float
    high: float
    start_px: float
    """Position of `low` [px]."""
    end_px: float
    """Position of `high` [px]."""

    def px(self, value: float) -> float:
        """Return the position of a value [px]."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start_px + share * (self.end_px - self.start_px), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Positions [px] and texts of about five round values."""
        raw = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(self.px(i * step), short(i * step)) for i in range(first, last + 1)]


def axis(label: str, values: Sequence[float], start_px: float, end_px: float) -> Axis:
    """Return an axis that shows all values, with a margin."""
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.5 * abs(high) or 0.5
    return Axis(label=label, low=low - margin, high=high + margin, start_px=start_px, end_px=end_px)


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot; all positions in px."""

    width: int
    height: int
    x: Axis
    y: Axis
    line: str = ""
    """Points of a line."""
    second: str = ""
    """Points of a dashed line, drawn over the other."""
    changes: Sequence[float] = ()
    """Positions of vertical lines."""
    points: Sequence[tuple[float, float, int, str]] = ()
    """Position, step of colour (0 best, 9 worst) and text of each point."""
    chosen: tuple[float, float] | None = None
    """Position of the chosen candidate."""
    geometry: tuple[float, float] | None = None
    """Position of what the decoded positions alone would choose."""
    note: str = ""
    """Line below the plot."""


def energy_plot(episode: Episode) -> Plot | None:
    """Return energy over steps, with a line at each change of sub-goal; None below two values."""
    shown = [(i, e) for i, e in enumerate(episode.energies) if np.isfinite(e)]
    if len(shown) < 2:
        return None
    width, height = 460, 190
    x = Axis(label="step", low=0, high=max(i for i, _ in shown), start_px=52, end_px=width - 10)
    top = 1.05 * max(e for _, e in shown) or 1.0
    y = Axis(label="energy", low=0, high=top, start_px=height - 38, end_px=10)
    due = episode.sub_goals
    changes = [x.px(i) for i in range(1, len(due)) if due[i] != due[i - 1] and i <= x.high]
    line = " ".join(f"{x.px(i)},{y.px(e)}" for i, e in shown)
    return Plot(width=width, height=height, x=x, y=y, line=line, changes=changes)


def _scaled(name: str, value: float) -> float:
    return value * (DEG_PER_RAD if name in IN_DEGREES else CM_PER_M)


def parameter_text(name: str, value: float) -> str:
    """Return a parameter of a skill in cm or degrees."""
    unit = "°" if name in IN_DEGREES else " cm"
    return f"{_words(name)} {_scaled(name, value):.1f}{unit}"


def _words(name: str) -> str:
    return WORDS.get(name, name.replace("_", " "))


def _pair_of_names(rows: Sequence[Candidate]) -> tuple[str, str] | None:
    """Return the two parameters of the first skill that a map shows."""
    names = list(rows[0].params[0]) if rows[0].params else []
    wanted = [name for name in FIRST_SHOWN if name in names]
    if len(wanted) < 2:
        spread = {name: np.ptp([row.params[0][name] for row in rows]) for name in names}
        wanted += sorted((n for n in names if n not in wanted), key=lambda n: -spread[n])
    return (wanted[0], wanted[1]) if len(wanted) > 1 else None


def aimed(record: SkillRecord) -> tuple[list[float], list[float]] | None:
    """Return position now and in the goal image [3, m] of the object that the choice moves.

    They are decoded; None where they are unknown.
    """
    if record.chosen is None or not record.objects or not record.goals:
        return None
    target = record.chosen.targets[0]
    if target is None or target >= len(record.objects):
        return None
    now, goal = (
        [Located(np.array(o[:3]), o[3]) for o in xs] for xs in (record.objects, record.goals)
    )
    pairs = dict(pair_objects(now, goal))
    if target not in pairs:
        return None
    return list(record.objects[target][:3]), list(record.goals[pairs[target]][:3])


def _located(poses: Sequence[tuple[float, float, float, float | None]]) -> list[Located]:
    return [Located(np.array(pose[:3]), pose[3]) for pose in poses]


def energy_map(record: SkillRecord) -> Plot | None:
    """Return the imagined energy over two parameters of the chosen skills; None if unknown."""
    chosen = record.chosen
    if chosen is None:
        return None
    same = (chosen.skills, chosen.targets)
    rows = [c for c in record.candidates if (c.skills, c.targets) == same]
    names = _pair_of_names(rows) if len(rows) > 3 else None
    if names is None:
        return None
    half = MAP_POINTS // 2
    if len(rows) > MAP_POINTS:
        rows = rows[:half] + rows[half :: max(1, len(rows) // half)]
    width, height = 300, 280
    values = [[_scaled(n, row.params[0][n]) for row in [*rows, chosen]] for n in names]
    units = [" [deg]" if n in IN_DEGREES else " [cm]" for n in names]
    geometry = aimed(record) if names == ("vx", "vy") else None
    aim = None
    if geometry is not None:
        aim = [CM_PER_M * (b - a) for a, b in zip(*geometry, strict=True)][:2]
        values = [[*v, a] for v, a in zip(values, aim, strict=True)]
    x = axis(_words(names[0]) + units[0], values[0], 50, width - 10)
    y = axis(_words(names[1]) + units[1], values[1], height - 38, 10)
    energies = [row.energy for row in rows]
    low, high = min(energies), float(np.quantile(energies, 0.9))
    points = [
        (
            x.px(a),
            y.px(b),
            min(9, int(10 * (row.energy - low) / max(high - low, 1e-12))),
            short(row.energy),
        )
        for a, b, row in zip(values[0], values[1], rows, strict=False)
    ]
    at = len(rows)
    return Plot(
        width=width,
        height=height,
        x=x,
        y=y,
        points=points[::-1],  # the best are drawn last, over the others
        chosen=(x.px(values[0][at]), y.px(values[1][at])),
        geometry=None if aim is None else (x.px(aim[0]), y.px(aim[1])),
        note=f"{len(rows)} imagined, energy {short(low)} (strong colour) to {short(high)} and more "
        "(faint)",
    )
