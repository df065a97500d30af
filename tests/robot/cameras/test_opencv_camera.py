"""`OpenCVCamera` on a real AVI file and on an MJPEG stream over HTTP that works, hangs and ends."""

import io
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from robot.cameras import camera as camera_module
from robot.cameras.camera import OpenCVCamera, SequenceCamera
from robot.cameras.threaded_camera import ThreadedCamera
from robot.errors import CameraError

cv2 = pytest.importorskip("cv2")


def picture(number):
    image = np.full((48, 64, 3), 60, np.uint8)
    image[:, : 4 * (number % 16)] = (200, 30, 30)
    return image


class Stream:
    """Serves moving pictures until `mode` changes: live, hang, end."""

    def __init__(self):
        self.mode = "live"
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=b")
                self.end_headers()
                number = 0
                while outer.mode != "end":
                    time.sleep(0.03)
                    if outer.mode == "hang":
                        continue
                    out = io.BytesIO()
                    Image.fromarray(picture(number)).save(out, "JPEG")
                    head = (
                        f"--b\r\nContent-Type: image/jpeg\r\nContent-Length: {out.tell()}\r\n\r\n"
                    )
                    try:
                        self.wfile.write(head.encode() + out.getvalue() + b"\r\n")
                    except OSError:
                        return
                    number += 1

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/camera.mjpg"


@pytest.fixture
def stream():
    stream = Stream()
    yield stream
    stream.mode = "end"
    stream.server.shutdown()
    stream.server.server_close()


def test_an_avi_file(tmp_path):
    path = str(tmp_path / "v.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    for number in range(3):
        writer.write(picture(8 * number)[..., ::-1])
    writer.release()
    camera = OpenCVCamera(path, size=(24, 32))
    means = [camera.read().image[..., 0].mean() for _ in range(3)]
    assert camera.size == (24, 32)
    assert means[1] > means[0] + 40  # red grows; RGB, not BGR
    with pytest.raises(CameraError, match="plugged in"):
        camera.read()
    camera.close()


def test_a_stream_lives_and_its_end_is_an_error(stream):
    seen, told = [], []
    camera = ThreadedCamera(OpenCVCamera(stream.url), seen.append, on_error=told.append)
    until = time.monotonic() + 120
    while len(seen) < 10 and time.monotonic() < until:
        time.sleep(0.02)
    assert len(seen) >= 10
    assert camera.read().image.shape == (48, 64, 3)
    stream.mode = "end"
    while not told and time.monotonic() < until:
        time.sleep(0.02)
    assert "plugged in" in told[0]
    with pytest.raises(CameraError, match="plugged in"):
        camera.read()
    camera.close()


def test_a_stream_that_hangs_is_silent_then_an_error_and_does_not_hold_up_close(stream):
    seen = []
    camera = ThreadedCamera(OpenCVCamera(stream.url, timeout_s=2.0), seen.append)
    stream.mode = "hang"
    time.sleep(0.5)
    last = camera.read().time_s
    time.sleep(0.3)
    assert camera.read().time_s == last  # grows old: `CheckedCamera` and the watchdog refuse it
    until = time.monotonic() + 120
    while not camera.error and time.monotonic() < until:
        time.sleep(0.05)
    assert "plugged in" in camera.error
    began = time.monotonic()
    camera.close()
    assert time.monotonic() - began < 15.0


def test_nobody_at_the_address():
    with pytest.raises(CameraError, match="cannot be opened"):
        OpenCVCamera("http://127.0.0.1:9/none.mjpg")


def test_recorded_pictures_keep_a_cameras_pace(tmp_path, monkeypatch):
    for number in range(4):
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.png")
    camera = SequenceCamera(tmp_path, live=True, fps=10.0)
    times = [camera.read().time_s for _ in range(4)]
    assert times[-1] - times[0] > 0.28
    with pytest.raises(CameraError, match="End of the recording"):
        camera.read()
    path = str(tmp_path / "v.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 5.0, (64, 48))
    for number in range(3):
        writer.write(picture(number))
    writer.release()
    video = SequenceCamera(path, live=True)
    times = [video.read().time_s for _ in range(3)]
    assert times[-1] - times[0] > 0.36  # the file's own five a second
    fast = SequenceCamera(path)
    monkeypatch.setattr(camera_module.time, "sleep", pytest.fail)  # waits for nothing
    for _ in range(3):
        fast.read()


def test_behind_a_grabber_the_end_of_the_file_stops_the_plan(tmp_path):
    for number in range(3):
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.png")
    told = []
    source = SequenceCamera(tmp_path, live=True, fps=20.0)
    camera = ThreadedCamera(source, on_error=told.append)
    until = time.monotonic() + 120
    while not told and time.monotonic() < until:
        time.sleep(0.01)
    with pytest.raises(CameraError, match="End of the recording"):
        camera.read()
    camera.close()
