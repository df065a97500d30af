"""Line charts as inline SVG for self-contained pages."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

Points = list[tuple[float, float]]

COLOURS = tuple(f"var(--c{i})" for i in range(8))
"""Colours of the series, which the page's style defines for a light and a dark background."""
WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 10, 40
LOG_RATIO = 50.0
"""Ratio of largest to smallest value above which the axis is logarithmic."""
MAX_POINTS = 600
"""Maximum number of points per series; longer series are subsampled."""


def figure(value: float, digits: int = 3) -> str:
    """Format a number with `digits` significant digits."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e-3 <= abs(value) < 1e5:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        return f"{value:,.{decimals}f}"
    return f"{value:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e+")


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers from `low` to `high`."""
    span = high - low
    if span <= 0:
        return [low]
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return the powers of ten within a range, and their multiples by 2 and 5 if there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    tens = [10.0**p for p in powers if low <= 10.0**p <= high]
    if len(tens) > 2:
        return tens
    return [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]


@dataclass(frozen=True)
class _Axes:
    """Map from values to pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    log: bool

    @classmethod
    def around(cls, points: Points) -> _Axes:
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        low, high = min(ys), max(ys)
        log = low > 0 and high / low > LOG_RATIO
        if not log:
            pad = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
            low, high = (0.0 if 0 <= low < 3 * pad else low - pad), high + pad
        return cls((min(xs), max(max(xs), min(xs) + 1)), (low, high), log)

    def px(self, x: float) -> float:
        return LEFT + (x - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - LEFT - RIGHT)

    def py(self, y: float) -> float:
        low, high, value = *self.y, y
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(y)
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def _thinned(points: Points) -> Points:
    step = max(1, len(points) // MAX_POINTS)
    return points[::step] + (points[-1:] if (len(points) - 1) % step else [])


def _tick_digits(ticks: list[float]) -> int:
    """Return the fewest significant digits that tell the labels apart, at least 4."""
    texts = ({f"{value:.{digits}g}" for value in ticks} for digits in range(4, 16))
    return next((4 + i for i, known in enumerate(texts) if len(known) == len(ticks)), 15)


def _grid(axes: _Axes, x_label: str) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [f'<rect x="{LEFT}" y="{TOP}" width="{right - LEFT}" height="{bottom - TOP}"/>']
    ticks = log_ticks(*axes.y) if axes.log else nice_ticks(*axes.y)
    digits = _tick_digits(ticks)
    for value in ticks:
        y = axes.py(value)
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        text = f"{value:.{digits}g}".replace("e-0", "e-")
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for value in (tick for tick in nice_ticks(*axes.x) if float(tick).is_integer()):  # whole steps
        x = axes.px(value)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>')
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{x_label}</text>')
    return parts


def _line(axes: _Axes, points: Points, colour: str) -> str:
    pixels = [(axes.px(x), axes.py(y)) for x, y in _thinned(points)]
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" style="fill:{colour}"/>' for x, y in pixels
    )
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
    line = f'<polyline points="{path}" style="stroke:{colour}"/>'
    return line + (dots if len(pixels) <= 30 else "")


def line_chart(title: str, series: dict[str, Points], x_label: str = "step") -> str:
    """Draw named series as an HTML figure; empty without finite points."""
    finite = {
        name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in series.items()
    }
    finite = {name: points for name, points in finite.items() if points}
    if not finite:
        return ""
    axes = _Axes.around([p for points in finite.values() for p in points])
    parts = _grid(axes, x_label)
    legend = []
    for i, (name, points) in enumerate(finite.items()):
        colour = COLOURS[i % len(COLOURS)]
        parts.append(_line(axes, points, colour))
        last = figure(points[-1][1])
        mark = f'<b style="color:{colour}">&#9632;</b>'
        legend.append(f"<span>{mark} {escape(name)} {last}</span>")
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg><p class='legend'>{' '.join(legend)}</p></figure>"
    )
