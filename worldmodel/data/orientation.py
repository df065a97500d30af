"""Turn decoded video frames as the file's display matrix says, like every player.

Phones record in the sensor's orientation and store a matrix beside the frames. FFmpeg's libraries
hand both over, and turning is left to the program.
"""

from __future__ import annotations

import functools
import struct

import av
import numpy as np
from av.sidedata.sidedata import Type

from worldmodel.data.episode import EpisodeError, Frames

ONE = 1 << 16
"""Unit of the matrix's fixed-point numbers."""
TOLERANCE = ONE // 64
"""Maximum rounding error of a matrix that still counts as a multiple of 90 degrees."""
Turn = tuple[bool, bool, bool]
"""Whether to swap the axes, then to flip left and right, then to flip top and bottom."""
UPRIGHT: Turn = (False, False, False)


def turn_of(frame: av.VideoFrame) -> Turn:
    """Return how a frame must be turned to be shown.

    Raises:
        EpisodeError: The angle is not a multiple of 90 degrees.
    """
    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None or data.buffer_size < 36:
        return UPRIGHT
    a, b, _, c, d = struct.unpack_from("=5i", bytes(data))  # x' = a x + c y, y' = b x + d y
    largest = max(abs(a), abs(b), abs(c), abs(d))
    if not largest:
        return UPRIGHT  # FFmpeg ignores a degenerate matrix, too
    small = largest * TOLERANCE // ONE
    if abs(b) <= small and abs(c) <= small:
        return (False, a < 0, d < 0)
    if abs(a) <= small and abs(d) <= small:
        return (True, c < 0, b < 0)
    raise EpisodeError(
        "video_damaged",
        f"its display matrix ({a}, {b}, {c}, {d}) is not a turn by a multiple of 90 degrees; "
        "encode it again without one",
    )


def upright(frame: av.VideoFrame, turn: Turn) -> Frames:
    """Return a frame as uint8 RGB [H, W, 3], turned as its file's first frame says (`turn_of`).

    Raises:
        EpisodeError: Pixels are transparent.
    """
    require_opaque(frame)
    swap, mirror, flip = turn
    pixels = frame.to_ndarray(format="rgb24")
    if swap:
        pixels = pixels.transpose(1, 0, 2)
    if mirror:
        pixels = pixels[:, ::-1]
    if flip:
        pixels = pixels[::-1]
    return pixels if turn == UPRIGHT else np.ascontiguousarray(pixels)


def has_alpha(frame: av.VideoFrame) -> bool:
    """Return whether a frame has an alpha channel."""
    return _has_alpha(frame.format.name)


@functools.cache
def _has_alpha(pixel_format: str) -> bool:
    return any(part.is_alpha for part in av.VideoFormat(pixel_format).components)


def require_opaque(frame: av.VideoFrame) -> None:
    """Check that a frame has no transparent pixels, whose colour depends on the background.

    Raises:
        EpisodeError: It has.
    """
    if has_alpha(frame) and int(frame.to_ndarray(format="rgba")[..., 3].min()) < 255:
        raise EpisodeError(
            "video_damaged",
            "it has transparent pixels, whose colour depends on the background; flatten it",
        )


def shown_size(frame: av.VideoFrame) -> tuple[int, int]:
    """Return the height and width of a frame as it is shown [px]."""
    swap, _, _ = turn_of(frame)
    return (frame.width, frame.height) if swap else (frame.height, frame.width)
