"""Frames by their number, with both decoders; torchcodec's cases need it and FFmpeg's libraries."""

import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from worldmodel.data import video
from worldmodel.data.episode import EpisodeError
from worldmodel.data.video import DECODER, VideoFrames, choose_decoder, inspect_video, packet_facts
from worldmodel.data.writers.synthetic import draw_frames, random_states
from worldmodel.data.writers.video import write_video
from worldmodel.errors import ConfigError
from worldmodel.perception.boxes.features import BoxClips, read_around

STEPS, SIZE = 70, (48, 64)
SPARSE = {"crf": "18", "preset": "veryfast", "g": "20", "bf": "3", "threads": "1"}
CODECS = {
    "h264": ("libx264", SPARSE),
    "one key frame": ("libx264", {**SPARSE, "g": "250"}),
    "av1": ("libsvtav1", {"preset": "10", "crf": "20", "g": "16", "svtav1-params": "lp=1"}),
}


@pytest.fixture(params=["pyav", "torchcodec"])
def decoder(request, monkeypatch):
    try:
        choose_decoder(request.param)
    except ConfigError as error:
        pytest.skip(str(error))
    monkeypatch.setenv(DECODER, request.param)
    return request.param


def numbered():
    """Frames with their number in seven black or white fields along the top."""
    frames = draw_frames(random_states(STEPS, 3), SIZE)
    for number, frame in enumerate(frames):
        for bit in range(7):
            frame[:16, 9 * bit : 9 * bit + 9] = 255 * (number >> bit & 1)
    return frames


def numbers(frames):
    fields = frames[:, 4:12, :63, 1].reshape(len(frames), 8, 7, 9)[..., 3:6].mean(axis=(1, 3))
    return ((fields > 128) << np.arange(7)).sum(axis=1).tolist()


@pytest.fixture(scope="module", params=CODECS)
def film(request, tmp_path_factory):
    codec, options = CODECS[request.param]
    frames = numbered()
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_video(path, frames, header_fps=60, codec=codec, options=options)
    return path, frames


def reason(path, steps):
    with pytest.raises(EpisodeError) as caught:
        VideoFrames(path, STEPS).read(np.asarray(steps))
    return caught.value.reason


@pytest.mark.parametrize("steps", [range(STEPS), range(2, 62, 4), [0], [STEPS - 1], [19, 20, 21]])
def test_the_asked_frames_whatever_the_header_says(film, decoder, steps, monkeypatch):
    path, truth = film
    found = VideoFrames(path, STEPS).read(np.asarray(steps))
    assert found.dtype == np.uint8
    assert found.shape == (len(steps), *SIZE, 3)
    assert numbers(found) == list(steps)
    assert np.abs(found.astype(int) - truth[list(steps)]).mean() < 4
    offset = VideoFrames(path, 1, first=steps[-1]).read(np.array([0]))
    monkeypatch.setenv(DECODER, "pyav")
    np.testing.assert_array_equal(found, VideoFrames(path, STEPS).read(np.asarray(steps)))
    np.testing.assert_array_equal(offset[0], found[-1])


def test_what_is_not_there_has_the_same_reason(film, decoder, tmp_path):
    path, _ = film
    assert reason(path, [STEPS - 1, STEPS]) == "video_too_short"
    assert reason(path, [STEPS + 3]) == "video_too_short"
    assert reason(tmp_path / "none.mp4", [0]) == "video_missing"
    for name, data in {"empty": b"", "torn": path.read_bytes()[:-400], "text": b"no video"}.items():
        (tmp_path / name).write_bytes(data)
        assert reason(tmp_path / name, [0]) == "video_truncated"


def index_first(path, frames):
    """With the index at the front, so that a cut file can still be opened."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(60), options=SPARSE)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def outcome(path, steps):
    try:
        return VideoFrames(path, STEPS).read(np.asarray(steps))
    except EpisodeError as error:
        return error.reason


@pytest.mark.parametrize("steps", [range(STEPS), range(2, 62, 4), range(50, 60), range(5)])
@pytest.mark.parametrize("spoil", ["cut", "hole"])
def test_damage_inside_is_read_alike(decoder, steps, spoil, tmp_path, monkeypatch):
    path = tmp_path / "film.mp4"
    index_first(path, numbered())
    data = bytearray(path.read_bytes())
    if spoil == "cut":
        del data[len(data) * 2 // 3 :]
    else:
        data[len(data) // 2 : len(data) // 2 + 600] = bytes(600)
    path.write_bytes(data)
    found = outcome(path, steps)
    monkeypatch.setenv(DECODER, "pyav")
    want = outcome(path, steps)
    assert isinstance(found, str) == isinstance(want, str)
    assert found == want if isinstance(want, str) else (found == want).all()
    with pytest.raises(EpisodeError, match=r"video_(damaged|truncated)"):
        inspect_video(path)


@pytest.fixture
def fresh():
    video._torchcodec.cache_clear()
    yield
    video._torchcodec.cache_clear()


@pytest.mark.parametrize("problem", ["absent", "no libraries"])
def test_without_torchcodec_pyav_reads_and_asking_for_it_is_an_error(
    film, fresh, problem, tmp_path, monkeypatch
):
    for name in [name for name in sys.modules if name.split(".")[0] == "torchcodec"]:
        monkeypatch.delitem(sys.modules, name)
    if problem == "absent":
        monkeypatch.setitem(sys.modules, "torchcodec", None)
    else:
        (tmp_path / "torchcodec").mkdir()
        (tmp_path / "torchcodec" / "__init__.py").write_text("raise RuntimeError('no libavutil')")
        monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv(DECODER, raising=False)
    assert choose_decoder() == "pyav"
    assert len(VideoFrames(film[0], STEPS).read(np.arange(3))) == 3
    monkeypatch.setenv(DECODER, "torchcodec")
    with pytest.raises(ConfigError, match=r"worldmodel\[video\]"):
        VideoFrames(film[0], STEPS).read(np.arange(3))
    monkeypatch.setenv(DECODER, "opencv")
    with pytest.raises(ConfigError, match="auto, pyav or torchcodec"):
        choose_decoder()


def test_packets_are_read_once_for_all_clips(film, monkeypatch):
    path, _ = film
    monkeypatch.setenv(DECODER, "pyav")
    video._order.cache_clear()
    for start in (5, 40, 23, 1, 60):
        steps = np.arange(start, start + 4)
        assert numbers(VideoFrames(path, STEPS).read(steps)) == steps.tolist()
    assert video._order.cache_info().misses == 1


def test_a_file_that_changed_is_read_anew(tmp_path, monkeypatch):
    monkeypatch.setenv(DECODER, "pyav")
    path, steps = tmp_path / "a.mp4", np.array([9, 30, 44])
    for cut in (0, 7):
        write_video(path, numbered()[cut:], header_fps=60)
        found = numbers(VideoFrames(path, STEPS - cut).read(steps))
        assert found == (steps + cut).tolist()


@pytest.mark.skipif(sys.platform != "linux", reason="counts bytes in /proc")
def test_a_recording_that_is_read_at_many_places_is_listed_once(tmp_path):
    def bytes_read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    path, clips = tmp_path / "ava.mp4", BoxClips(4, 1, 0.0, "last")
    noise = np.random.default_rng(0).integers(0, 256, (200, 96, 128, 3), dtype=np.uint8)
    write_video(path, noise, header_fps=10)
    counts = []
    for time_s in (2.0, 2.4, 2.8, 3.2):  # the file has one key frame
        before = bytes_read()
        read_around(path, time_s, clips)
        counts.append(bytes_read() - before)
    assert max(counts[1:]) < path.stat().st_size / 2 < counts[0]
    write_video(path, noise[:50], header_fps=10)
    assert packet_facts(path).frames == 50
