"""No such camera and no such library are at hand: what a user without them reads."""

import sys

import pytest

from robot.cameras.realsense import RealSenseCamera
from robot.errors import CameraError


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(CameraError, match=r"worldmodel\[realsense\]"):
        RealSenseCamera()
