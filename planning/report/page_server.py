"""HTTP server of a page for browsers of this machine that know the page's token.

It listens on the loopback interface only, answers requests for its own host name only (other names
are the mark of DNS rebinding), and requires the token. At most `MAX_CLIENTS` connections are open,
each for at most `REQUEST_S`.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias

log = logging.getLogger(__name__)
_Request: TypeAlias = socket.socket | tuple[bytes, socket.socket]
HOST = "127.0.0.1"
MAX_CLIENTS = 8
"""Maximum number of open connections; a further one ends the oldest."""
REQUEST_S = 5.0
"""Time after which a connection is ended, whatever it has sent or received by then [s]."""
PAUSE_S = 0.02
"""Minimum time between two connections [s]."""
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""They keep the token and the images from other web sites."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one GET request per connection."""

    server: PageServer

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


class PageServer(ThreadingHTTPServer):
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
