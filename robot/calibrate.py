"""Estimate the model-to-arm rotation, and how far a camera has moved.

Known x-y moves A [N, 2] are compared with the moves B [N, 2] that the model infers from the frames
before and after each: W* = argmin |A W - B|. Source: V-JEPA 2 (arXiv 2506.09985), appendix B.4.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot.errors import CalibrationError
from robot.ranges import between, check_number

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Estimated rotation between the model's axes and the arm's."""

    angle_deg: float
    """Angle from the model's axes to the arm's, about the base's z axis [deg]."""
    rotation: tuple[tuple[float, float], tuple[float, float]]
    """Rotation matrix: arm move = rotation @ planned move."""
    scale: float
    """Ratio of inferred to true move length."""
    condition: float
    """Condition number of A; 1 is best."""
    residual: float
    """Root mean square of A W - B, divided by that of A."""
    moves: int
    """Number of moves."""

    @property
    def matrix(self) -> Array:
        """The rotation as an array [2, 2]."""
        return np.array(self.rotation)

    def write(self, path: Path) -> None:
        """Write the result as JSON, completely or not at all."""
        part = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}.part")
        try:
            part.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> Axes:
        """Read a file that `write` wrote.

        Raises:
            CalibrationError: The file is missing or holds no rotation.
        """
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            axes = cls(**said)
            r = axes.matrix.astype(np.float64)
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise CalibrationError(
                f"{path} holds no calibration ({error}): make one with `worldmodel calibrate axes`"
            ) from error
        if (
            r.shape != (2, 2)
            or not np.allclose(r @ r.T, np.eye(2), atol=1e-6)
            or not np.linalg.det(r) > 0
        ):
            raise CalibrationError(
                f"{path}: {r.tolist()} is not a rotation matrix: calibrate again"
            )
        return axes


def solve_axes(
    moves_N2: ArrayLike,
    inferred_N2: ArrayLike,
    *,
    max_condition: float = 3.0,
    max_residual: float = 0.5,
) -> Axes:
    """Return the rotation that best maps inferred moves to true ones.

    Args:
        moves_N2: True moves of the arm [N, 2, m].
        inferred_N2: Moves inferred by the model [N, 2, m].
        max_condition: Maximum condition number of the moves; nearly parallel ones say nothing about
            the other axis.
        max_residual: Maximum relative residual.

    Raises:
        CalibrationError: The moves are too few, ill-conditioned, mirrored, or leave too large a
            residual.
        ConfigError: A maximum is out of its range.
    """
    check_number("max_condition", max_condition, between(1, 1e6))
    check_number("max_residual", max_residual, between(0, 1))
    a, b = np.asarray(moves_N2, dtype=np.float64), np.asarray(inferred_N2, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 2 or len(a) < 3:
        raise CalibrationError(f"Moves {a.shape}, inferred {b.shape}; allowed: both [N, 2], N >= 3")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise CalibrationError("A move is not finite: calibrate again")
    condition = float(np.linalg.cond(a))
    if not condition <= max_condition:
        raise CalibrationError(
            f"The moves' condition number is {condition:.1f}, at most {max_condition}: they lie "
            "along one line. Make more moves, in all directions"
        )
    w = np.linalg.lstsq(a, b, rcond=None)[0]
    residual = float(np.sqrt(np.mean((a @ w - b) ** 2) / np.mean(a**2)))
    if not residual <= max_residual:
        raise CalibrationError(
            f"{residual:.0%} of the moves remain unexplained, at most {max_residual:.0%}: the "
            "model does not see these moves. Is the arm in view, and the table as in training?"
        )
    u, sizes, vt = np.linalg.svd(w)
    if not np.linalg.det(u @ vt) > 0:
        raise CalibrationError(
            "The inferred moves are mirrored: is the image flipped, or the camera behind the arm?"
        )
    r = u @ vt
    return Axes(
        angle_deg=float(np.degrees(np.arctan2(r[1, 0], r[0, 0]))),
        rotation=((float(r[0, 0]), float(r[0, 1])), (float(r[1, 0]), float(r[1, 1]))),
        scale=float(sizes.mean()),
        condition=condition,
        residual=residual,
        moves=len(a),
    )


def draw_moves(rng: np.random.Generator, count: int, length_m: float, reach_m: float) -> Array:
    """Draw x-y moves [count, 2, m] of one length whose running sum stays within `reach_m`."""
    place, moves = np.zeros(2), []
    for _ in range(count):
        angles = rng.uniform(-np.pi, np.pi, 64)
        options = length_m * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        ends = np.linalg.norm(place + options, axis=1)
        inside = np.flatnonzero(ends <= reach_m)
        move = options[inside[0] if len(inside) else int(np.argmin(ends))]
        place = place + move
        moves.append(move)
    return np.array(moves)


@dataclass(frozen=True, kw_only=True)
class View:
    """Difference between a camera view and its reference."""

    difference: float
    """Mean absolute difference of grey levels (0..1), with equal mean brightness."""
    shift_px: tuple[float, float]
    """Shift of the view in rows and columns, by phase correlation [px]."""


def compare_views(view: NDArray[np.uint8], reference: NDArray[np.uint8]) -> View:
    """Compare two images [H, W, 3] of the same size.

    Raises:
        CalibrationError: The sizes differ.
    """
    if view.shape != reference.shape:
        raise CalibrationError(
            f"The view is {view.shape[:2]} px, the reference {reference.shape[:2]}: take the "
            "reference with the same camera and size"
        )
    a, b = (x.astype(np.float64).mean(axis=2) / 255.0 for x in (view, reference))
    even = (a - a.mean()) - (b - b.mean())
    window = np.outer(np.hanning(a.shape[0]), np.hanning(a.shape[1]))
    cross = np.fft.rfft2((a - a.mean()) * window) * np.conj(np.fft.rfft2((b - b.mean()) * window))
    peaks = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-12), s=a.shape)
    at = np.unravel_index(int(np.argmax(peaks)), peaks.shape)
    rows, columns = (float(i - n if i > n // 2 else i) for i, n in zip(at, a.shape, strict=True))
    return View(difference=float(np.abs(even).mean()), shift_px=(rows, columns))


def overlay(view: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the reference in red over the view in cyan [H, W, 3]; matching parts are grey."""
    a, b = view.mean(axis=2), reference.mean(axis=2)
    return np.stack([b, a, a], axis=2).round().astype(np.uint8)
