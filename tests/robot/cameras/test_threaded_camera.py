"""A camera in a thread: the newest frame, silence, failure, and a device that hangs."""

import threading
import time

import numpy as np
import pytest

from robot.cameras import threaded_camera
from robot.cameras.camera import Frame
from robot.cameras.threaded_camera import ThreadedCamera
from robot.errors import CameraError


class Device:
    """Gives numbered pictures until told otherwise."""

    def __init__(self):
        self.number, self.frozen, self.failed, self.closed = 0, False, False, False
        self.reading = threading.Lock()
        self.answers = threading.Event()
        self.answers.set()

    def read(self):
        with self.reading:
            time.sleep(0.005)
            self.answers.wait(120.0)
            if self.failed:
                raise CameraError("the device is gone")
            self.number += not self.frozen
            return Frame(np.full((4, 4, 3), self.number % 200, np.uint8), time.monotonic())

    def close(self):
        assert not self.reading.locked(), "released while it is read"
        self.closed = True


def wait_until(true, seconds=120.0):
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.01)
    assert true()


def test_the_newest_frame_and_the_signs_of_life():
    device, seen = Device(), []
    camera = ThreadedCamera(device, seen.append)
    wait_until(lambda: len(seen) > 5)
    assert camera.read().time_s >= seen[5]
    device.frozen = True
    time.sleep(0.1)
    count = len(seen)
    time.sleep(0.1)
    assert len(seen) == count  # the same picture is not a sign of life
    assert camera.read().time_s > seen[-1]
    camera.close()
    assert device.closed


def test_a_failure_is_told_once_and_by_every_read():
    device, told = Device(), []
    camera = ThreadedCamera(device, on_error=told.append)
    device.failed = True
    wait_until(lambda: told)
    for _ in range(2):
        with pytest.raises(CameraError, match="gone"):
            camera.read()
    wait_until(lambda: device.closed)
    camera.close()
    assert told == ["the device is gone"]


def test_a_hanging_device_holds_nobody_up_and_is_not_released_under_its_reader(monkeypatch):
    monkeypatch.setattr(threaded_camera, "CLOSE_S", 0.2)
    device = Device()
    camera = ThreadedCamera(device)
    device.answers.clear()
    time.sleep(0.05)
    began = time.monotonic()
    camera.close()
    assert time.monotonic() - began < 15.0
    assert not device.closed
    device.answers.set()
    wait_until(lambda: device.closed)  # by its own thread


def test_no_first_frame_is_an_error():
    device = Device()
    device.answers.clear()
    with pytest.raises(CameraError, match="No frame within"):
        ThreadedCamera(device, first_s=0.1)
    device.answers.set()
    wait_until(lambda: device.closed)
    device = Device()
    device.failed = True
    with pytest.raises(CameraError, match="gone"):
        ThreadedCamera(device)


@pytest.mark.parametrize("error", [ValueError("odd picture"), CameraError(""), MemoryError()])
@pytest.mark.parametrize("when", [0, 5])
def test_a_failure_of_any_kind_is_told(error, when):
    class Odd(Device):
        def read(self):
            if self.number == when:
                raise error
            return super().read()

    device, told = Odd(), []
    if when == 0:
        with pytest.raises(CameraError, match=type(error).__name__):
            ThreadedCamera(device, on_error=told.append)
    else:
        camera = ThreadedCamera(device, on_error=told.append)
        wait_until(lambda: told)
        with pytest.raises(CameraError, match=type(error).__name__):
            camera.read()
        camera.close()
    assert [type(error).__name__ in text for text in told] == [True]
    wait_until(lambda: device.closed)
