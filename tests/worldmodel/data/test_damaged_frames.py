"""Frames whose damage the decoder hides are errors wherever frames are read."""

import av
import numpy as np
import pytest

from worldmodel.data import video
from worldmodel.data.episode import EpisodeError
from worldmodel.data.video import VideoFrames
from worldmodel.data.video_file import inspect_video

FRAMES, KEYS = 40, 20


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """A video of 40 frames with a key frame at 0 and at 20."""
    monkeypatch.setattr(video, "choose_decoder", lambda: "pyav")
    path = tmp_path / "whole.mp4"
    rows, columns = np.mgrid[:48, :64]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size = KEYS
        for number in range(FRAMES):
            one = ((3 * rows + 2 * columns + 4 * number) % 256).astype(np.uint8)
            image = np.stack([one, 255 - one, one], -1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def concealed(whole, number):
    """Damage a frame's data so that FFmpeg decodes every frame, and marks one as damaged."""
    with av.open(str(whole)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    place, size, data = packets[number].pos, packets[number].size, whole.read_bytes()
    for start in range(place + 10, place + size - 8, 3):
        changed = bytearray(data)
        for at in range(start, start + 8):
            changed[at] ^= 0xA5
        path = whole.with_name(f"{number}-{start}.mp4")
        path.write_bytes(changed)
        try:
            with av.open(str(path)) as container:
                marked = [frame.is_corrupt for frame in container.decode(video=0)]
        except av.FFmpegError:
            continue
        if len(marked) == FRAMES and marked[number]:
            return path
    raise AssertionError("no change was concealed")


def test_a_concealed_frame_is_damage_to_all_that_follow_it(whole):
    path = concealed(whole, 0)
    with pytest.raises(EpisodeError, match="frame 0"):
        inspect_video(path)
    for steps in ([0], [5], [1, 4, 30]):
        with pytest.raises(EpisodeError, match=r"frame 0 of .* is damaged"):
            VideoFrames(path, FRAMES).read(np.array(steps))
    later = np.array([KEYS, KEYS + 7])  # decoded from the second key frame
    assert np.array_equal(
        VideoFrames(path, FRAMES).read(later), VideoFrames(whole, FRAMES).read(later)
    )


def test_frames_before_the_damage_are_read(whole):
    path = concealed(whole, KEYS)
    early = np.array([0, KEYS - 1])
    assert np.array_equal(
        VideoFrames(path, FRAMES).read(early), VideoFrames(whole, FRAMES).read(early)
    )
    with pytest.raises(EpisodeError, match=f"frame {KEYS} of"):
        VideoFrames(path, FRAMES).read(np.array([KEYS + 3]))
