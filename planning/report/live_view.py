"""Live web page of a drive: camera, goal, energy, plan and reasons.

It is served from background threads. The control loop only replaces a reference; images are
compressed in the server's threads when a browser requests them. Only a browser on this machine that
knows the token in the address can read it.
"""

from __future__ import annotations

import contextlib
import functools
import hmac
import json
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from planning.drive_log import step_row
from planning.driving import Step
from planning.errors import DriveError
from planning.protocols import SubGoal
from planning.report.page import templates
from planning.report.plots import short
from planning.report.video import png_bytes

log = logging.getLogger(__name__)
_Request: TypeAlias = socket.socket | tuple[bytes, socket.socket]
HOST = "127.0.0.1"
MAX_CLIENTS = 8
"""Maximum number of open connections; a further one ends the oldest."""
REQUEST_S = 5.0
"""Time after which a connection is ended, whatever it has sent or received by then [s]."""
PAUSE_S = 0.02
"""Minimum time between two connections [s]."""
MAX_ENERGIES = 1000
"""Number of steps in the page's plot, the newest ones."""
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""They keep the token and the images from other web sites."""


class _State:
    """Content of the page; immutable, replaced as a whole."""

    def __init__(self) -> None:
        grey = np.full((8, 8, 3), 200, np.uint8)
        self.camera: NDArray[np.uint8] = grey
        self.goal: NDArray[np.uint8] = grey
        self.step: Step | None = None
        self.name, self.count = "", 0
        self.energies: tuple[float, ...] = ()
        self.first = 0
        """Step of the first of these energies."""

    @functools.cached_property
    def camera_png(self) -> bytes:
        """Camera image, compressed once per step."""
        return png_bytes(self.camera, 1)

    @functools.cached_property
    def goal_png(self) -> bytes:
        """Goal image, compressed once per step."""
        return png_bytes(self.goal, 1)

    def json(self) -> str:
        """Return the numbers and texts of the page."""
        row = {} if self.step is None else step_row(self.step)
        text = "waiting for the first step"
        if self.step is not None:
            text = f"step {self.step.index}, energy {short(row.get('energy'))}"
        found = {
            "count": self.count,
            "goal": self.name,
            "text": text,
            "row": row,
            "energies": list(self.energies),
            "first": self.first,
        }
        # Browsers reject NaN in JSON.
        return json.dumps(json.loads(json.dumps(found), parse_constant=lambda _: None))


class _Handler(BaseHTTPRequestHandler):
    """Answers one GET request per connection."""

    server: _Server

    def do_GET(self) -> None:
        """Send a part of the page, if the request names this server and holds the token."""
        kind, body, status = "text/plain", b"not found", 404
        origin = self.headers.get_all("Origin")  # of the page that asks, if it is another one
        if self.headers.get_all("Host") not in self.server.hosts or (
            origin is not None and origin not in self.server.origins
        ):
            status, body = 403, b"This address is not the one that `worldmodel drive` printed."
        else:
            token, _, name = self.path.removeprefix("/").partition("?")[0].partition("/")
            if not hmac.compare_digest(token.encode(), self.server.token.encode()):
                status, body = 403, b"Open the whole address that `worldmodel drive` printed."
            elif name in self.server.parts:
                status, (kind, body) = 200, self.server.parts[name]()
        self.send_response(status)
        for key, value in {"Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        for key, value in SECURITY_HEADERS.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Do not log requests."""


class _Server(ThreadingHTTPServer):
    """Server with a bounded number of connections, each of which has a deadline.

    Args:
        port: TCP port on the loopback interface.
        parts: Name of a part of the page -> function that returns its content type and body.
    """

    daemon_threads = True

    def __init__(self, port: int, parts: dict[str, Callable[[], tuple[str, bytes]]]) -> None:
        super().__init__((HOST, port), _Handler)
        self.parts, self.token = parts, secrets.token_urlsafe(16)
        port = int(self.server_address[1])
        self.hosts = [[f"{name}:{port}"] for name in (HOST, "localhost")]
        self.origins = [[f"http://{host}"] for (host,) in self.hosts]
        self.lock = threading.Lock()
        self.open: dict[socket.socket, float] = {}
        """Open connections, oldest first, and the times by which they must have ended [s]."""

    def process_request(self, request: _Request, client_address: object) -> None:
        """Serve a connection in its own thread; the oldest one makes room for it."""
        if not isinstance(request, socket.socket):
            raise TypeError(f"{request!r} is not a TCP connection")
        time.sleep(PAUSE_S)  # limits the processor time that a flood of requests can take
        with self.lock:
            oldest = next(iter(self.open)) if len(self.open) >= MAX_CLIENTS else None
            self.open[request] = time.monotonic() + REQUEST_S
        if oldest is not None:
            self.end(oldest)
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """End the connections that are past their deadline."""
        now = time.monotonic()
        with self.lock:
            late = [connection for connection, end in self.open.items() if end < now]
        for connection in late:
            self.end(connection)

    def end(self, connection: socket.socket) -> None:
        """Interrupt the thread that serves a connection; it then closes the connection."""
        with self.lock:
            self.open.pop(connection, None)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: _Request) -> None:
        """Close a connection after its request."""
        with self.lock:
            if isinstance(request, socket.socket):
                self.open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: _Request, client_address: object) -> None:
        """Ignore failures of one connection: browsers close theirs at any time."""
        log.debug("live view: connection of %s failed", client_address, exc_info=True)


class LiveView:
    """Server of the live page; runs until closed.

    It listens on the loopback interface only, answers requests for its own host name only (other
    names are the mark of DNS rebinding), and requires the random token in `url`. At most
    `MAX_CLIENTS` connections are open, each for at most `REQUEST_S`.

    Args:
        port: TCP port; 0 uses any free port.

    Raises:
        DriveError: The port is not available.
    """

    def __init__(self, port: int = 0) -> None:
        self.now = _State()
        self.goals: Sequence[SubGoal] = ()
        self.energies: list[float] = []
        page = templates().get_template("live.html.j2").render().encode()
        parts: dict[str, Callable[[], tuple[str, bytes]]] = {
            "": lambda: ("text/html; charset=utf-8", page),
            "state.json": lambda: ("application/json", self.now.json().encode()),
            "camera.png": lambda: ("image/png", self.now.camera_png),
            "goal.png": lambda: ("image/png", self.now.goal_png),
        }
        try:
            self.server = _Server(port, parts)
        except (OSError, OverflowError) as error:
            raise DriveError(
                f"The live view cannot use port {port} ({error}): port=0 takes a free one"
            ) from error
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.1,), daemon=True)
        self.thread.start()
        self.url = f"http://{HOST}:{self.server.server_address[1]}/{self.server.token}/"

    def begin(self, goals: Sequence[SubGoal]) -> None:
        """Start a new episode with these goals."""
        self.goals, self.energies = goals, []

    def step(self, step: Step) -> None:
        """Show a step."""
        new = _State()
        new.count, new.step, new.camera = self.now.count + 1, step, step.frame.image
        new.goal, new.name = self.now.goal, self.now.name
        if step.decision is not None:
            self.energies.append(step.decision.energy)
            goal = self.goals[step.decision.sub_goal]
            new.goal, new.name = goal.image, goal.name
        new.energies = tuple(self.energies[-MAX_ENERGIES:])
        new.first = len(self.energies) - len(new.energies)
        self.now = new

    def close(self) -> None:
        """Stop serving."""
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.server.open):
            self.server.end(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
