"""Pictures and videos as bytes of a file, in colours as the camera saw them.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Frame = NDArray[np.uint8]
"""RGB [H, W, 3]."""
QUALITY = 18
"""Constant rate factor of H.264: 0 is lossless, 51 the coarsest."""


def png_bytes(frame: Frame, level: int = 6) -> bytes:
    """Return a PNG file of an RGB frame, compressed at a level of 0 to 9."""
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "PNG", compress_level=level)
    return out.getvalue()


def webp_bytes(frames: Sequence[Frame], fps: float = 6.0, scale: int = 1) -> bytes:
    """Return an animated WebP of RGB frames, which unlike GIF keeps all colours.

    Args:
        frames: uint8 [H, W, 3] each, of one size.
        fps: Frames per second.
        scale: Integer scale factor.
    """
    pictures = [Image.fromarray(enlarged(frame, scale)) for frame in frames]
    out = io.BytesIO()
    pictures[0].save(
        out,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=int(1000 / fps),
        loop=0,
        quality=85,
        method=3,
    )
    return out.getvalue()


def enlarged(frame: Frame, scale: int) -> Frame:
    """Return a frame with every pixel repeated `scale` times in both directions."""
    return frame.repeat(scale, axis=0).repeat(scale, axis=1)


def h264_bytes(frames: Sequence[Frame], fps: int = 6, scale: int = 3) -> bytes:
    """Return an MP4 file with H.264 of RGB frames, enlarged so that no colour is subsampled away.

    Args:
        frames: uint8 [H, W, 3] each, of one size.
        fps: Frames per second.
        scale: Integer scale factor.

    Raises:
        av.codec.codec.UnknownCodecError: This build of PyAV has no H.264 encoder.
    """
    out = io.BytesIO()
    first = enlarged(frames[0], scale)
    height, width = (side + side % 2 for side in first.shape[:2])
    with av.open(out, "w", format="mp4") as file:
        options = {"crf": str(QUALITY), "preset": "veryfast", "tune": "animation"}
        stream = file.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.color_range = 1  # limited, as all players take untagged files
        stream.codec_context.colorspace = 1  # BT.709
        for frame in frames:
            large = enlarged(frame, scale)
            edges = [(0, height - large.shape[0]), (0, width - large.shape[1]), (0, 0)]
            shown = av.VideoFrame.from_ndarray(np.pad(large, edges, mode="edge"), format="rgb24")
            shown = shown.reformat(format="yuv420p", dst_colorspace=1, dst_color_range=1)
            file.mux(stream.encode(shown))
        file.mux(stream.encode())
    return out.getvalue()


def movie(frames: Sequence[Frame]) -> tuple[str, bytes]:
    """Return the media type and content of a film: H.264, or WebP where PyAV cannot encode it."""
    try:
        return "video/mp4", h264_bytes(frames)
    except av.codec.codec.UnknownCodecError:
        return "image/webp", webp_bytes(frames, scale=2)


def data_uri(kind: str, content: bytes) -> str:
    """Return a file as a `data:` address, for pages that hold everything."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def picture_uri(frame: Frame) -> str:
    """Return a frame as a `data:` address of a PNG."""
    return data_uri("image/png", png_bytes(frame))
