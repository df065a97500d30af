"""Serve the twin's camera as an MJPEG stream over HTTP: a network camera for rehearsals.

A process of its own renders the images from the server's shared memory, with a little sensor noise.
`worldmodel drive robot=franka camera=http://...` reads them like any other camera's; the process
can be frozen or killed to rehearse a camera's failure.
"""

from __future__ import annotations

import io
import multiprocessing
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from PIL import Image

from envs.arm_env import ArmEnv
from envs.twin.messages import Answer, leave_signals_to_parent, wait_for
from envs.twin.twin import Twin, sync
from robot.arm import Closing

BOUNDARY = b"frame"
"""Separator between the parts of the stream."""


class TwinCamera(Closing):
    """Context manager that serves the images of a twin at `url`.

    Args:
        twin: Twin, reset to the scene of `seed`.
        seed: Seed of that scene's appearance.
        fps: Frame rate [Hz].
        noise: Standard deviation of the sensor noise (0..255).

    Raises:
        TwinError: The process did not start.
    """

    def __init__(self, twin: Twin, seed: int, *, fps: float = 20.0, noise: float = 2.0) -> None:
        context = multiprocessing.get_context("spawn")
        self._frozen = context.RawValue("b", 0)
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve,
            daemon=True,
            args=(twin.scene, seed, twin.shared, self._frozen, theirs, fps, noise),
        )
        self._process.start()
        theirs.close()
        try:
            self.url = wait_for(self._pipe, self._process, "start its camera")
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """PID of the process that renders and serves."""
        return int(self._process.pid or 0)

    def freeze(self) -> None:
        """Keep serving the current image."""
        self._frozen.value = 1

    def close(self) -> None:
        """End the stream."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


class _Newest:
    """Newest image, shared by the threads of all viewers."""

    def __init__(self) -> None:
        self.body, self.count = b"", 0
        self.changed = threading.Condition()

    def put(self, body: bytes) -> None:
        with self.changed:
            self.body, self.count = body, self.count + 1
            self.changed.notify_all()

    def after(self, count: int) -> tuple[bytes, int]:
        with self.changed:
            self.changed.wait_for(lambda: self.count > count, timeout=5.0)
            return self.body, self.count


def _handler(newest: _Newest) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            kind = f"multipart/x-mixed-replace; boundary={BOUNDARY.decode()}"
            self.send_header("Content-Type", kind)
            self.end_headers()
            count = 0
            try:
                while True:
                    body, count = newest.after(count)
                    head = b"--%s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
                    self.wfile.write(head % (BOUNDARY, len(body)) + body + b"\r\n")
            except OSError:
                return  # the viewer has exited

        def log_message(self, *_: Any) -> None:
            """Do not log requests."""

    return Handler


def _serve(
    scene: dict[str, Any],
    seed: int,
    shared: Any,
    frozen: Any,
    pipe: Connection,
    fps: float,
    noise: float,
) -> None:
    """Run the camera process until its parent exits."""
    leave_signals_to_parent()
    env = ArmEnv(**scene)
    env.reset(seed=seed)
    rng, newest, body = np.random.default_rng(seed), _Newest(), b""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(newest))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pipe.send(Answer("done", f"http://127.0.0.1:{server.server_address[1]}/camera.mjpg"))
    due = time.monotonic()
    while True:
        if not frozen.value or not body:
            sync(env, shared)
            clean = env.renderer.render(env.data, "left")
            noisy = np.clip(clean + rng.normal(0, noise, clean.shape), 0, 255).astype(np.uint8)
            out = io.BytesIO()
            Image.fromarray(noisy).save(out, "JPEG", quality=95)
            body = out.getvalue()
        newest.put(body)
        due = max(due + 1.0 / fps, time.monotonic())
        try:
            if pipe.poll(max(0.0, due - time.monotonic())):
                pipe.recv()
        except (EOFError, OSError):
            return  # the parent has exited
