"""Self-contained web page of a data set: cameras, states, and actions integrated beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from planning.atomic_write import write_text
from planning.report.page import cell, label, templates
from planning.report.plots import CM_PER_M, DEG_PER_RAD, Plot, axis
from planning.report.video import picture_uri

Array = NDArray[np.float64]
PARTS = (
    ("x [cm]", CM_PER_M),
    ("y [cm]", CM_PER_M),
    ("z [cm]", CM_PER_M),
    ("roll [deg]", DEG_PER_RAD),
    ("pitch [deg]", DEG_PER_RAD),
    ("yaw [deg]", DEG_PER_RAD),
    ("closedness", 1.0),
)
"""Name, unit and factor of each component of a state."""
ANGLES = slice(3, 6)
MIN_SPAN = {"[cm]": 2.0, "[deg]": 5.0, "": 1.0}
"""Smallest range that a plot shows, by unit; less would make noise look like motion."""


@dataclass(frozen=True, kw_only=True)
class EpisodeData:
    """An episode to show."""

    name: str
    facts: str
    times_s: Array
    states_TS: Array
    """Recorded states [T, 7]."""
    integrated_TS: Array
    """States to which the actions lead from the first one [T, 7]."""
    cameras: Mapping[str, Sequence[tuple[float, NDArray[np.uint8]]]]
    """Camera name -> time [s] and frame [H, W, 3] of some steps."""


@dataclass(frozen=True, kw_only=True)
class _EpisodeView:
    name: str
    facts: str
    cameras: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    plots: Sequence[tuple[str, Plot]]


def write_data_page(
    page: Path,
    title: str,
    summary: Mapping[str, object],
    findings: Sequence[tuple[str, bool | None]],
    episodes: Sequence[EpisodeData],
) -> None:
    """Write the page.

    Args:
        page: Output file; its folder is created if missing.
        title: Heading.
        summary: Facts of the data set, shown as a table.
        findings: Sentences of the verdict, each with whether it is good (None: a mere fact).
        episodes: Episodes to show.
    """
    table = [(label(key), cell(value)) for key, value in summary.items()]
    views = [_view(episode) for episode in episodes]
    template = templates().get_template("data.html.j2")
    text = template.render(title=title, table=table, findings=findings, episodes=views)
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, text)


def _view(episode: EpisodeData) -> _EpisodeView:
    cameras = [
        (name, [(f"{time:.2f} s", picture_uri(frame)) for time, frame in frames])
        for name, frames in episode.cameras.items()
    ]
    recorded, integrated = _unwrapped(episode.states_TS), _unwrapped(episode.integrated_TS)
    integrated[:, ANGLES] += _turns(recorded[0, ANGLES] - integrated[0, ANGLES])
    plots = [
        (name, _pair(name, episode.times_s, recorded[:, i] * scale, integrated[:, i] * scale))
        for i, (name, scale) in enumerate(PARTS)
    ]
    return _EpisodeView(name=episode.name, facts=episode.facts, cameras=cameras, plots=plots)


def _unwrapped(states_TS: Array) -> Array:
    """Return states whose angles have no jumps of a whole turn."""
    found = states_TS.copy()
    found[:, ANGLES] = np.unwrap(found[:, ANGLES], axis=0)
    return found


def _turns(angles: Array) -> Array:
    return np.asarray(2 * np.pi * np.round(angles / (2 * np.pi)))


def _pair(name: str, times_s: Array, recorded_T: Array, integrated_T: Array) -> Plot:
    width, height = 300, 170
    unit = name.partition(" ")[2]
    values = np.concatenate([recorded_T, integrated_T])
    missing = max(0.0, MIN_SPAN[unit] - float(np.ptp(values))) / 2
    shown = [float(values.min()) - missing, float(values.max()) + missing]
    x = axis("time [s]", [0.0, float(times_s[-1])], 50, width - 10)
    y = axis(name, shown, height - 38, 10)
    lines = [
        " ".join(f"{x.px(t)},{y.px(v)}" for t, v in zip(times_s, line, strict=True))
        for line in (recorded_T, integrated_T)
    ]
    return Plot(width=width, height=height, x=x, y=y, line=lines[0], second=lines[1])
