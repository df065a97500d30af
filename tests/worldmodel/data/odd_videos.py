"""Small videos as phones, editors and recorders with gaps write them."""

import struct
from fractions import Fraction

import av
import numpy as np

SIZE = (48, 64)
OPTIONS = {"threads": "1", "crf": "10", "g": "10", "bf": "2"}


def grey(number):
    """Return a frame whose level tells its number, with a bright top left corner."""
    frame = np.full((*SIZE, 3), 20 + 3 * (number % 70), np.uint8)
    frame[:12, :16] = 250
    return frame


def number_of(frame):
    """Return the number (modulo 70) of a frame of `grey`, whose centre is never the corner."""
    height, width = frame.shape[:2]
    return round((float(frame[height // 2, width // 2].mean()) - 20) / 3)


def corner_of(frame):
    """Return where the bright corner lies: (bottom, right)."""
    height, width = frame.shape[:2]
    corners = {
        (bottom, right): float(frame[-4 if bottom else 3, -4 if right else 3].mean())
        for bottom in (False, True)
        for right in (False, True)
    }
    assert height > 8
    assert width > 8
    return max(corners, key=corners.get)


def write(path, count, *, fps=15, times_ms=None):
    """Write `count` numbered frames, at a constant rate or at the given times."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options=OPTIONS)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(grey(number), format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turn(path, matrix):
    """Write (a, b, c, d) of the display matrix into the track header of an MP4 file."""
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd") + 4
    at += 4 + (20 if data[at] == 0 else 32) + 16
    a, b, c, d = (round(v * 65536) for v in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def edit(path, first_s, seconds):
    """Let the edit list of an MP4 file show only a part."""
    data = bytearray(path.read_bytes())
    at = data.find(b"mdhd") + 4
    scale = struct.unpack_from(">I", data, at + 12)[0]
    at = data.find(b"elst") + 12
    start = struct.unpack_from(">i", data, at + 4)[0]
    struct.pack_into(">Ii", data, at, round(1000 * seconds), start + round(first_s * scale))
    path.write_bytes(data)
    return path
