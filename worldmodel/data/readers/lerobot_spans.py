"""Place the episodes of a LeRobot v3.0 data set in the videos that they share.

The places of all episodes are computed in one pass, so that one costs no walk over the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from worldmodel.data.episode import EpisodeError

Row = dict[str, Any]
SAME_S = 1e-3
"""Times that differ by less are the same if the frame rate is unknown [s]."""


@dataclass
class Span:
    """Where an episode's frames lie in a video that it shares with others."""

    first: int
    """Number of its first frame."""
    whole: int = 0
    """Number of frames of all episodes that the list places in the video."""
    unplaced: int = 0
    """Number of frames of all episodes of which the list does not say where they lie."""
    fault: EpisodeError | None = field(default=None, repr=False)
    """Why the list cannot be trusted about this episode."""


def whole_number(row: Row, name: str) -> int:
    """Return an entry of a row of the list.

    Raises:
        EpisodeError: It is not a whole number from 0.
    """
    value = row.get(name)
    if type(value) is not int or not 0 <= value < 2**40:
        raise EpisodeError(
            "list_entry", f"{name} is {str(value)[:200]} in the list; a whole number is needed"
        )
    return value


def video_spans(listed: dict[int, Row], key: str, fps: float | None) -> dict[int, Span]:
    """Return the spans of all episodes of a v3.0 data set in the videos of one view.

    Two episodes whose times in a video overlap, or whose times contradict their lengths, have a
    `fault`.
    """
    spans: dict[int, Span] = {}
    unplaced = 0
    files: dict[tuple[int, int], list[tuple[float, float, int, int]]] = {}
    for number, row in listed.items():
        try:
            place, times = _times(row, key, fps)
        except EpisodeError as error:
            spans[number] = Span(0, fault=error)
            length = row.get("length")  # of any type: it may be what is wrong with the entry
            unplaced += length if type(length) is int and length > 0 else 0
        else:
            files.setdefault(place, []).append((*times, number, whole_number(row, "length")))
    for episodes in files.values():
        spans |= _place_in_file(sorted(episodes), fps)
    for span in spans.values():
        span.unplaced = unplaced if fps else 0
    return spans


def _times(row: Row, key: str, fps: float | None) -> tuple[tuple[int, int], tuple[float, float]]:
    """Return the file of an episode's frames, and the first and last time in it [s]."""
    if "fault" in row:
        raise EpisodeError("list_entry", row["fault"])
    prefix, length = f"videos/{key}", whole_number(row, "length")
    place = (whole_number(row, f"{prefix}/chunk_index"), whole_number(row, f"{prefix}/file_index"))
    start, end = row.get(f"{prefix}/from_timestamp"), row.get(f"{prefix}/to_timestamp")
    if end is None and isinstance(start, (int, float)):
        end = start + (length / fps if fps else 2 * SAME_S)
    for value in (start, end):
        if not isinstance(value, (int, float)) or not 0 <= value < 1e9:
            raise EpisodeError("list_entry", f"{prefix}: times {start} to {end} s are not a span")
    return place, (float(start), float(end))  # type: ignore[arg-type]  # checked in the loop


def _place_in_file(
    episodes: list[tuple[float, float, int, int]], fps: float | None
) -> dict[int, Span]:
    """Place the episodes of one video, given as start, end [s], number and length, by start."""
    spans: dict[int, Span] = {}
    tolerance_s = 0.5 / fps if fps else SAME_S
    first, latest_s, latest = 0, -1.0, -1
    for start_s, end_s, number, length in episodes:
        spans[number] = Span(first)
        if latest >= 0 and start_s < latest_s - tolerance_s:
            for one, other in ((number, latest), (latest, number)):
                what = f"episodes {one} and {other} overlap in one video: from {start_s} s"
                spans[one].fault = EpisodeError("video_span", what)
        elif fps and not _fits(start_s, end_s, first, length, fps):
            what = f"{start_s} to {end_s} s at {fps} fps are not {length} frames from {first}"
            spans[number].fault = EpisodeError("video_span", what)
        first += length
        if end_s >= latest_s:
            latest_s, latest = end_s, number
    for span in spans.values():
        span.whole = first
    return spans


def _fits(start_s: float, end_s: float, first: int, length: int, fps: float) -> bool:
    """Return whether a span has its length, and begins after the frames before, up to a frame.

    Starts are sums of the durations of videos, so rounding may add up to a thousandth.
    """
    starts_there = abs(start_s * fps - first) <= 1 + first / 1000
    return starts_there and abs((end_s - start_s) * fps - length) <= 1
