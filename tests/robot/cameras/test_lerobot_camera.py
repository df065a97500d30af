"""Cameras of the lerobot package, with the real package where it is installed."""

import sys

import pytest

from planning.apps.open_camera import open_camera
from robot.cameras.lerobot_camera import LeRobotCamera
from robot.errors import CameraError


def test_without_lerobot_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lerobot", None)
    with pytest.raises(CameraError, match="pip install lerobot"):
        open_camera("lerobot:opencv,index_or_path=0")


@pytest.mark.parametrize("text", ["", "opencv,0", "open cv,fps=3", ",fps=3"])
def test_a_wrong_description_shows_an_example(text):
    with pytest.raises(CameraError, match="for instance lerobot:opencv"):
        LeRobotCamera(text)


def test_a_camera_of_lerobot_reads_a_stream(tmp_path):
    pytest.importorskip("lerobot")
    pytest.importorskip("cv2")
    from tests.robot.cameras.test_opencv_camera import Stream

    stream = Stream()
    try:
        camera = open_camera(f"lerobot:opencv,index_or_path={stream.url},warmup_s=0")
        image = camera.read().image
        assert image.shape == (48, 64, 3)
        assert image[..., 0].mean() >= image[..., 2].mean() - 2  # the picture's bar is red in RGB
        camera.close()
    finally:
        stream.mode = "end"
        stream.server.shutdown()
        stream.server.server_close()
    with pytest.raises(CameraError, match="cannot be opened"):
        open_camera(f"lerobot:opencv,index_or_path={tmp_path}/none.avi")
