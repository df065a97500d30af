"""Made clips of textured shapes that move over textured ground, with labels, for experiments.

A shape keeps its direction and speed for a whole clip, and may turn. The ground drifts slowly.
Every clip's colour channels are brought to one mean and deviation, so that its tint tells nothing.
Clips are functions of the seed and their index, so a set has any length and needs no files. Sets
of different seeds share neither textures nor paths.

Shapes: B clips, T frames, S pixels a side.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from worldmodel.data.shape_options import LABELS, MARGIN, SHAPES, SPEED_PX, Event, ShapeClipOptions

RADIUS = 9
"""Half the side of a shape's stencil [px]."""
TURNS = 48
"""Number of drawn orientations of a shape."""
GROUND, TEXTURES = 56, 400
"""Spare side of a ground texture [px] and number of textures of each kind."""
MEAN, DEVIATION = 124.0, 48.0
"""Mean and deviation of each channel of a clip [grey levels]; values are cut to 0..255."""


def _inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return which points lie inside each of `SHAPES`: [8, ...]."""
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    ax, ay = np.abs(x), np.abs(y)
    return np.stack(
        [
            radius < 6.5,
            (ax < 5.6) & (ay < 5.6),
            (y > -4.2) & (y < 7.6 - 1.75 * ax) & (ax < 7),
            ((ax < 2.2) & (ay < 7.5)) | ((ay < 2.2) & (ax < 7.5)),
            (radius < 7.3) & (radius > 3.8),
            radius < 5.4 + 2.8 * np.cos(5 * angle),
            (ax < 8.5) & (ay < 2.8),
            ((np.abs(x + 3.5) < 2.2) & (ay < 7))
            | ((np.abs(y - 4.8) < 2.2) & (x > -5.7) & (x < 6.5)),
        ]
    )


@functools.cache
def stencils() -> np.ndarray:
    """Return the coverage 0..1 of each shape's pixels: [shape, turn, 19, 19]."""
    axis = np.arange(-RADIUS, RADIUS + 1)
    rows, columns = np.meshgrid(axis, axis, indexing="ij")
    out = np.zeros((len(SHAPES), TURNS, *rows.shape), np.float32)
    for turn in range(TURNS):
        angle = 2 * np.pi * turn / TURNS
        cos, sin = np.cos(angle), np.sin(angle)
        for dy in (-1 / 3, 0, 1 / 3):
            for dx in (-1 / 3, 0, 1 / 3):
                x, y = columns + dx, rows + dy
                out[:, turn] += _inside(cos * x + sin * y, cos * y - sin * x) / 9
    out.flags.writeable = False
    return out


def _textures(count: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """Draw smooth and blocky colour textures around 0: [count, side, side, 3]."""
    out = np.empty((count, side, side, 3), np.float32)
    for i in range(count):
        cells = rng.choice([3, 5, 8, 12])
        nodes = rng.normal(size=(cells, cells, 3)) * rng.uniform(0.3, 1)
        nodes += rng.normal(size=(1, 1, 3)) * 0.5
        places = np.linspace(0, cells - 1, side)
        low = np.minimum(places.astype(int), cells - 2)
        weight = places - low
        if rng.random() < 0.3:
            weight = np.round(weight)
        rows = nodes[low] * (1 - weight)[:, None, None] + nodes[low + 1] * weight[:, None, None]
        w = weight[None, :, None]
        out[i] = rows[:, low] * (1 - w) + rows[:, low + 1] * w
    return out


def _equalised(frames_TSSC: np.ndarray, like_TSSC: np.ndarray) -> np.ndarray:
    """Bring each channel of `like` to `MEAN` and `DEVIATION`, and map the frames alike to uint8."""
    side = frames_TSSC.shape[2]
    pixels = like_TSSC.reshape(-1, 3)
    each = np.full(len(pixels), 1 / len(pixels), np.float32)
    middle = each @ pixels  # sums over few columns are slow, products are not
    scale = DEVIATION / np.sqrt(np.maximum(each @ np.square(pixels) - middle**2, 0.25))
    rows = frames_TSSC.reshape(-1, 3 * side) * np.tile(scale, side)
    rows += np.tile(MEAN - middle * scale, side)
    np.rint(rows, out=rows)
    np.maximum(np.minimum(rows, 255, out=rows), 0, out=rows)
    return rows.astype(np.uint8).reshape(frames_TSSC.shape)


@dataclass(frozen=True)
class _Path:
    """Whole-pixel centres of a shape and its orientations, frame by frame."""

    centres: np.ndarray
    """int [T, 2], x and y"""
    turns: np.ndarray
    """int [T]"""


class ShapeClips:
    """A made set of moving shapes, as a source of clips."""

    def __init__(self, options: ShapeClipOptions) -> None:
        """Draw the textures of the set."""
        self.options = o = options
        rng = np.random.default_rng([o.seed])
        self.grounds = _textures(TEXTURES, o.side + GROUND, rng)
        self.fills = _textures(TEXTURES, 2 * RADIUS + 1, rng)
        self.noise = (8 * rng.normal(size=max(1 << 18, 4 * o.num_frames * o.side**2 * 3))).astype(
            np.float32
        )

    def __len__(self) -> int:
        """Return the number of clips."""
        return self.options.num_clips

    def content_hash(self) -> str:
        """Return a hash of the options, which determine every clip."""
        return hashlib.sha256(repr(self.options).encode()).hexdigest()[:16]

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return `frames` uint8 [B,T,S,S,3] and the labels.

        Those are the class numbers `shape`, `direction` and `speed`, int64 [B], and `position`
        float32 [B,2].
        """
        found = [self._clip(int(index)) for index in indices]
        for clip in found:
            clip["frames"] = _equalised(clip["frames"], clip["frames"])
        return {name: np.stack([clip[name] for clip in found]) for name in found[0]}

    def _path(self, direction: int, speed: int, rng: np.random.Generator) -> _Path:
        o = self.options
        time = np.arange(o.num_frames)
        low, high = MARGIN, o.side - 1 - MARGIN
        most = (high - low) / (o.num_frames - 1)
        slow, fast = SPEED_PX[speed]
        rate = rng.uniform(min(slow, most), min(fast, most))
        angle = direction * np.pi / 4
        step = rate * np.array([np.cos(angle), np.sin(angle)])
        travel = step * (o.num_frames - 1)
        start = rng.uniform(np.maximum(low, low - travel), np.minimum(high, high - travel) + 1e-6)
        turn = rng.uniform(0, TURNS) + rng.integers(-1, 2) * rng.uniform(2.5, 4.5) * time
        centres = np.round(start + time[:, None] * step).astype(int)
        return _Path(centres, np.round(turn).astype(int) % TURNS)

    def broken_frames(self, index: int, event: Event) -> np.ndarray:
        """Return the frames [T,S,S,3] of a clip whose shape breaks physics in the middle frame.

        Everything else is as in `batch`: the shape `vanishes`, `appears`, or `jumps` sideways to
        the other half of the picture.
        """
        return _equalised(self._clip(index, event)["frames"], self._clip(index)["frames"])

    def empty_frames(self, index: int) -> np.ndarray:
        """Return the frames [T,S,S,3] of a clip without its shape; all else is as in `batch`."""
        return _equalised(self._clip(index, "absent")["frames"], self._clip(index)["frames"])

    def _ground(self, texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a drifting window on a ground texture: float32 [T, S, S, 3]."""
        o = self.options
        drift, corner = rng.uniform(-1.5, 1.5, 2), rng.integers(GROUND // 4, 3 * GROUND // 4, 2)
        moved = np.round(corner + np.arange(o.num_frames)[:, None] * drift)
        offsets = np.minimum(np.maximum(moved, 0), GROUND).astype(int)
        (left, top), (right, bottom) = offsets.min(0), offsets.max(0) + o.side
        seen = 128 + 34 * texture[top:bottom, left:right]
        out = np.empty((o.num_frames, o.side, o.side, 3), np.float32)
        for frame, (x, y) in zip(out, (offsets - (left, top)).tolist(), strict=True):
            frame[:] = seen[y : y + o.side, x : x + o.side]
        return out

    def _clip(
        self, index: int, event: Event | Literal["absent"] | None = None
    ) -> dict[str, np.ndarray]:
        """Return the labels and float32 frames, before their colours are brought to one mean."""
        o = self.options
        rng = np.random.default_rng([o.seed, 1, index])
        shape, direction, speed = (int(rng.integers(len(names))) for names in LABELS.values())
        path = self._path(direction, speed, rng)
        texture = self.grounds[rng.integers(TEXTURES)]
        fill = rng.uniform(20, 235, 3).astype(np.float32) + 26 * self.fills[rng.integers(TEXTURES)]
        frames = self._ground(texture, rng)
        begin = rng.integers(0, len(self.noise) - frames.size)
        noise = self.noise[begin : begin + frames.size].reshape(frames.shape)
        masks, middle = stencils()[shape], o.num_frames // 2
        if event == "jumps":
            half = (o.side - 1) / 2
            shift = round(half - MARGIN)
            path.centres[middle:, 0] += shift if path.centres[middle, 0] < half else -shift
        times = range(o.num_frames)
        shown = {"vanishes": times[:middle], "appears": times[middle:], "absent": times[:0]}
        for t in shown.get(event or "", times):
            x, y = (path.centres[t] - RADIUS).tolist()
            top, left = max(0, -y), max(0, -x)
            window = frames[t, max(0, y) : y + 2 * RADIUS + 1, max(0, x) : x + 2 * RADIUS + 1]
            part = np.s_[top : top + window.shape[0], left : left + window.shape[1]]
            window += masks[path.turns[t]][part][..., None] * (fill[part] - window)
        frames += noise
        return {
            "frames": frames,
            "shape": np.int64(shape),
            "direction": np.int64(direction),
            "speed": np.int64(speed),
            "position": (path.centres[middle] / o.side).astype(np.float32),
        }
