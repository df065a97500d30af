"""Frames as players show them: turned, inside the edit list, at the file's own times."""

import os

import av
import numpy as np
import pytest
from PIL import Image

from tests.worldmodel.data import odd_videos as odd
from worldmodel.data import video_file
from worldmodel.data.episode import EpisodeError
from worldmodel.data.video import DECODER, VideoFrames, inspect_video
from worldmodel.data.video_file import shown_frames
from worldmodel.perception.features.extract import sampled_frames

TURNS = {
    "upright": ((1, 0, 0, 1), (48, 64), (False, False)),
    "90 clockwise": ((0, 1, -1, 0), (64, 48), (False, True)),
    "180": ((-1, 0, 0, -1), (48, 64), (True, True)),
    "90 anticlockwise": ((0, -1, 1, 0), (64, 48), (True, False)),
    "mirrored": ((-1, 0, 0, 1), (48, 64), (False, True)),
    "upside down": ((1, 0, 0, -1), (48, 64), (True, False)),
    "transposed": ((0, 1, 1, 0), (64, 48), (False, False)),
    "90 clockwise and mirrored": ((0, -1, -1, 0), (64, 48), (True, True)),
}


@pytest.fixture(autouse=True)
def by_pyav(monkeypatch):
    monkeypatch.setenv(DECODER, "pyav")


@pytest.mark.parametrize("name", TURNS)
def test_every_reader_turns_the_frames(name, tmp_path):
    matrix, size, corner = TURNS[name]
    path = odd.turn(odd.write(tmp_path / "phone.mp4", 20), matrix)
    for decode in (True, False):
        facts = inspect_video(path, decode=decode)
        assert (facts.height, facts.width, facts.frames) == (*size, 20)
    clip = VideoFrames(path, 20).read(np.array([0, 12]))
    _, sampled = next(iter(sampled_frames(path, 4.0)))
    for frame in (*clip, sampled):
        assert frame.shape == (*size, 3)
        assert odd.corner_of(frame) == corner
    np.testing.assert_array_equal(clip[0], sampled)


def test_an_angle_between_is_refused(tmp_path):
    path = odd.turn(odd.write(tmp_path / "tilted.mp4", 5), (0.7, 0.7, -0.7, 0.7))
    with pytest.raises(EpisodeError, match="multiple of 90 degrees"):
        VideoFrames(path, 5).read(np.array([0]))


@pytest.mark.parametrize(("first", "count"), [(25, 23), (7, 30), (0, 20)])
def test_hidden_frames_do_not_count(first, count, tmp_path):
    path = odd.edit(odd.write(tmp_path / "cut.mp4", 60), first / 15, count / 15)
    facts = inspect_video(path)
    assert facts == inspect_video(path, decode=False)
    assert facts.frames == count
    shown = [odd.number_of(frame.pixels()) for frame in shown_frames(path)]
    assert shown == list(range(first, first + count))
    for steps in (range(count), [count - 1], range(5, count, 3), [11]):
        frames = VideoFrames(path, count).read(np.asarray(steps))
        assert [odd.number_of(f) for f in frames] == [first + step for step in steps]
    with pytest.raises(EpisodeError, match="video_too_short"):
        VideoFrames(path, count).read(np.array([count]))


def test_a_video_that_shows_nothing_is_refused(tmp_path):
    path = odd.edit(odd.write(tmp_path / "cut.mp4", 20), 100, 1)
    for decode in (True, False):
        with pytest.raises(EpisodeError, match="shows no frame"):
            inspect_video(path, decode=decode)


@pytest.mark.parametrize("alpha", [0, 255])
def test_transparent_pixels_are_refused(alpha, tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=15)
        (stream.height, stream.width), stream.pix_fmt = odd.SIZE, "bgra"
        rgba = np.dstack([odd.grey(3), np.full(odd.SIZE, alpha, np.uint8)])
        container.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba")))
        container.mux(stream.encode())
    readers = (
        inspect_video,
        VideoFrames(path, 1).read,
        lambda _: next(shown_frames(path)).pixels(),
    )
    for read, given in zip(readers, (path, np.array([0]), None), strict=True):
        if alpha == 255:
            read(given)
            continue
        with pytest.raises(EpisodeError, match="transparent"):
            read(given)


def test_a_picture_beside_the_video_is_not_the_video(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 16, 16, "yuvj420p"
        stream = container.add_stream("libx264", rate=15, options=odd.OPTIONS)
        (stream.height, stream.width), stream.pix_fmt = odd.SIZE, "yuv420p"
        dark = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux(cover.encode(dark))
        container.mux(cover.encode())
        for number in range(6):
            frame = av.VideoFrame.from_ndarray(odd.grey(number), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    for decode in (True, False):
        facts = inspect_video(path, decode=decode)
        assert (facts.frames, facts.height, facts.width) == (6, *odd.SIZE)
    read = [*VideoFrames(path, 6).read(np.array([0, 4])), *VideoFrames(path, 6).read(np.array([5]))]
    assert [odd.number_of(frame) for frame in read] == [0, 4, 5]
    assert [odd.number_of(frame.pixels()) for frame in shown_frames(path)] == list(range(6))


GAPS = {
    "one gap": [33 * i for i in range(60)] + [6000 + 33 * i for i in range(60)],
    "slow start": [500 * i for i in range(5)] + [2500 + 40 * i for i in range(60)],
    "two gaps": [40 * i for i in range(40)]
    + [9000, 9040, 9080]
    + [20_000 + 40 * i for i in range(40)],
}


@pytest.mark.parametrize("name", GAPS)
@pytest.mark.parametrize("fps", [2.0, 4.0, 10.0])
def test_no_burst_after_a_gap(name, fps, tmp_path):
    stamps = np.array(GAPS[name]) / 1000
    path = odd.write(tmp_path / "gaps.mp4", len(stamps), fps=30, times_ms=GAPS[name])
    times = np.array([t for t, _ in sampled_frames(path, fps)])
    ticks = np.floor((times + 1e-6) * fps)
    assert (np.diff(ticks) >= 1).all(), "at most one frame a tick"
    reachable = np.unique(np.searchsorted(stamps, np.arange(0, stamps[-1] + 1e-6, 1 / fps) - 1e-6))
    assert len(times) <= len(reachable)
    assert set(np.round(times, 6)) <= set(np.round(stamps - stamps[0], 6))
    played, rate = inspect_video(path, decode=False).played()
    at = np.arange(len(played)) / rate
    assert (np.append(stamps, np.inf)[played + 1] > at).all(), "no frame is shown too long"
    assert (stamps[played] <= at + 0.5 / rate).all(), "no frame is shown before its time"


def test_a_constant_rate_is_played_frame_by_frame(tmp_path):
    for fps in (15, 30, 24):
        facts = inspect_video(odd.write(tmp_path / f"{fps}.mp4", 50, fps=fps))
        played, rate = facts.played()
        np.testing.assert_array_equal(played, np.arange(50))
        assert rate == fps


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    for name in ("pipe.mp4", "folder.mp4"):
        for read in (inspect_video, lambda path: next(iter(sampled_frames(path, 4.0)))):
            with pytest.raises(EpisodeError, match="not a regular file"):
                read(tmp_path / name)


def test_a_list_of_files_is_no_video(tmp_path):
    odd.write(tmp_path / "outside.mp4", 4)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link.mp4").symlink_to(tmp_path / "outside.mp4")
    listed = tmp_path / "data" / "a.mp4"
    for text in ("ffconcat version 1.0\nfile link.mp4\n", "#EXTM3U\n#EXTINF:1,\nlink.mp4\n"):
        listed.write_text(text)
        with pytest.raises(EpisodeError, match="not a video"):
            inspect_video(listed)
    picture = tmp_path / "data" / "picture.mp4"
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    with pytest.raises(EpisodeError, match="not a video"):
        inspect_video(picture)


def test_absurd_sizes_are_refused(tmp_path, monkeypatch):
    path = odd.write(tmp_path / "a.mp4", 5)
    monkeypatch.setattr(video_file, "MAX_PIXELS", 48 * 64 - 1)
    with pytest.raises(EpisodeError, match=r"64 x 48 px"):
        inspect_video(path)


def test_damaged_headers_are_errors_of_the_file(tmp_path):
    whole = odd.write(tmp_path / "whole.mp4", 40).read_bytes()
    start, generator = whole.find(b"moov"), np.random.default_rng(0)
    path = tmp_path / "odd.mp4"
    readers = (
        inspect_video,
        lambda path: inspect_video(path, decode=False).played(),
        lambda path: list(sampled_frames(path, 4.0)),
        lambda path: VideoFrames(path, 40).read(np.array([3, 20])),
    )
    for _ in range(60):
        data = bytearray(whole)
        for at in generator.integers(start, len(data) - 4, 3):
            data[at : at + 4] = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"][at % 3]
        path.write_bytes(data)
        for read in readers:
            try:
                read(path)
            except EpisodeError:
                continue


def test_an_unknown_codec_and_odd_metadata(tmp_path):
    whole = odd.write(tmp_path / "whole.mp4", 20).read_bytes()
    (tmp_path / "codec.mp4").write_bytes(whole.replace(b"avc1", b"zzz1"))
    with pytest.raises(EpisodeError, match="unknown codec"):
        inspect_video(tmp_path / "codec.mp4")
    (tmp_path / "latin.mp4").write_bytes(whole.replace(b"VideoHandler", b"Vid\xe9oHandler"))
    assert inspect_video(tmp_path / "latin.mp4").frames == 20


def test_a_gap_of_centuries_is_refused(tmp_path):
    stamps = [*range(0, 2000, 40), 2**31 * 900]
    path = odd.write(tmp_path / "gap.mkv", len(stamps), fps=25, times_ms=stamps)
    with pytest.raises(EpisodeError, match="median interval"):
        inspect_video(path, decode=False).played()
