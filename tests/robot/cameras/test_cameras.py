import time

import numpy as np
import pytest
from PIL import Image

from robot.cameras.camera import CallableCamera, CheckedCamera, Frame, OpenCVCamera, SequenceCamera
from robot.errors import CameraError
from tests.worldmodel.data.odd_videos import corner_of, turn, write
from worldmodel.data.writers.video import write_video


class Scripted:
    def __init__(self, frames):
        self.frames = iter(frames)

    def read(self):
        return next(self.frames)

    def close(self):
        pass


def grey(value=100):
    return np.full((32, 32, 3), value, np.uint8)


def test_folder_and_video_give_their_pictures_in_order(tmp_path):
    for i in range(3):
        Image.fromarray(grey(40 * i + 20)).save(tmp_path / f"{i}.png")
    camera = SequenceCamera(tmp_path)
    assert [round(camera.read().image.mean()) for _ in range(3)] == [20, 60, 100]
    with pytest.raises(CameraError, match="End"):
        camera.read()
    write_video(tmp_path / "v.mp4", [grey(30), grey(200)], header_fps=4.0)
    video = SequenceCamera(tmp_path / "v.mp4", size=(16, 16))
    assert video.read().image.shape == (16, 16, 3)
    assert video.read().image.mean() > 150
    video.close()


def test_opencv_reads_a_stream_and_notices_its_end(tmp_path):
    pytest.importorskip("cv2")
    image = grey()
    image[..., 0] = 200
    write_video(tmp_path / "v.mp4", [image], header_fps=4.0)
    camera = OpenCVCamera(str(tmp_path / "v.mp4"), size=(16, 16))
    frame = camera.read()
    assert frame.image[8, 8, 0] > frame.image[8, 8, 2] + 50  # RGB, not BGR
    with pytest.raises(CameraError, match="plugged in"):
        camera.read()
    camera.close()
    with pytest.raises(CameraError, match="cannot be opened"):
        OpenCVCamera(str(tmp_path / "none.mp4"))


def test_black_and_stale_frames_are_refused():
    with pytest.raises(CameraError, match="black"):
        CheckedCamera(CallableCamera(lambda: grey(0))).read()
    old = Scripted([Frame(grey(), time.monotonic() - 0.3)])
    with pytest.raises(CameraError, match="old, at most"):
        CheckedCamera(old).read()


def test_a_frozen_camera_is_noticed_and_a_lively_one_is_not():
    first = time.monotonic() - 2.0
    frames = [Frame(grey(), first + 0.3 * i) for i in range(3)]
    same = CheckedCamera(Scripted(frames), max_age_s=60.0)
    same.read()
    same.read()
    with pytest.raises(CameraError, match="not changed for"):
        same.read()
    frames = [Frame(grey(50 + i), first + 0.3 * i) for i in range(5)]
    lively = CheckedCamera(Scripted(frames), max_age_s=60.0)
    for _ in range(5):
        lively.read()


def test_missing_pictures_are_an_error(tmp_path):
    with pytest.raises(CameraError, match="No images"):
        SequenceCamera(tmp_path / "nowhere.mp4")


def test_a_phone_video_is_turned(tmp_path):
    path = turn(write(tmp_path / "phone.mp4", 5), (0, 1, -1, 0))
    for size, shape in ((None, (64, 48, 3)), ((32, 24), (32, 24, 3))):
        image = SequenceCamera(path, size).read().image
        assert image.shape == shape
        assert corner_of(image) == (False, True)
