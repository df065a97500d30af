"""A ZED's left picture from a side-by-side stream, and what a user without the SDK reads."""

import sys

import numpy as np
import pytest
from PIL import Image

from planning.apps.open_camera import open_camera
from robot.cameras.camera import CallableCamera
from robot.cameras.zed import SideBySideCamera, ZedCamera
from robot.errors import CameraError


@pytest.fixture
def stereo(tmp_path):
    """Pictures of a scene beside the same scene, shifted and darker."""
    rng = np.random.default_rng(0)
    lefts = rng.integers(100, 250, (3, 36, 64, 3), np.uint8)
    for i, left in enumerate(lefts):
        right = np.roll(left // 2, 4, axis=1)
        Image.fromarray(np.concatenate([left, right], axis=1)).save(tmp_path / f"{i}.png")
    return tmp_path, lefts


def test_the_left_half_of_each_frame_is_the_picture(stereo):
    folder, lefts = stereo
    camera = open_camera(f"side_by_side:{folder}", live=True)
    for left in lefts:
        assert np.array_equal(camera.read().image, left)
    with pytest.raises(CameraError, match="End of the recording"):
        camera.read()
    camera.close()


def test_the_right_half_and_the_frames_time(stereo):
    both = np.asarray(Image.open(stereo[0] / "0.png"))
    camera = SideBySideCamera(CallableCamera(lambda: both), "right")
    frame = camera.read()
    assert np.array_equal(frame.image, both[:, 64:])
    assert frame.image.flags.c_contiguous
    camera.close()


@pytest.mark.parametrize("shape", [(48, 64), (40, 81), (64, 127)])
def test_a_single_picture_is_refused(shape):
    camera = SideBySideCamera(CallableCamera(lambda: np.zeros((*shape, 3), np.uint8)))
    with pytest.raises(CameraError, match="not two pictures side by side"):
        camera.read()


def test_a_missing_sdk_names_the_fallback(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyzed", None)
    with pytest.raises(CameraError, match="camera=side_by_side:0"):
        ZedCamera()
    with pytest.raises(CameraError, match="camera=side_by_side:0"):
        open_camera("zed:31337")
