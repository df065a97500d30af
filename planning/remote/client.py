"""Connection to a plan server, watched by heartbeats.

Two threads watch the server while the planner waits or the arm moves: one sends WebSocket pings
and notes when each is answered, the other reads the age of the newest answer. The second one takes
no lock that a send to a frozen server could hold. A connection that failed once stays failed, with
the first reason.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Protocol

from planning.errors import DriveError, PlanError
from planning.remote.token import read_token
from planning.remote.wire import Message, need, pack, unpack
from planning.serve_options import RemoteOptions

OPEN_S = 10.0
"""Time to connect, and to be greeted by the server [s]."""
PREPARE_S = 120.0
"""Time for the server to answer what is not a plan: an arm's conventions, goals [s]."""
POLL_S = 0.02
"""Interval of looking at the age of the newest heartbeat, and at a failure [s]."""
BEATS = 6
"""Heartbeats within the time after which their absence is a failure."""
CLOSE_S = 0.5
"""Time for a farewell to the server [s]."""
MAX_ANSWER = 64 * 2**20
"""Maximum size of an answer of a server [bytes]."""


class _WebSocket(Protocol):
    """What is used of `websockets.sync.client.ClientConnection`."""

    @property
    def socket(self) -> socket.socket:
        """The TCP or TLS socket."""

    @property
    def state(self) -> object:
        """A member of `websockets.protocol.State`."""

    def send(self, message: bytes) -> None:
        """Send a message."""

    def recv(self, timeout: float) -> bytes | str:
        """Receive a message."""

    def ping(self) -> threading.Event:
        """Send a ping; the event is set by its answer."""

    def close(self) -> None:
        """Close with a farewell."""

    def close_socket(self) -> None:
        """Close without a farewell."""


class PlanConnection:
    """An open connection; `hello` is what the server says about its model.

    Args:
        options: Address, token and time limits.

    Raises:
        DriveError: The server cannot be reached, or does not greet as a plan server does.
        PlanError: An option is wrong, or a library is missing.
    """

    def __init__(self, options: RemoteOptions) -> None:
        self.options, self.address = options, options.policy
        self._failed, self._guards = "", list[Callable[[str], None]]()
        self._closing, self._once = threading.Event(), threading.Lock()
        self._ws = self._open(read_token(options.token_file))
        self._seen = time.monotonic()
        self._threads = [
            threading.Thread(target=work, daemon=True, name=f"plan-server-{work.__name__}")
            for work in (self._beat, self._watch)
        ]
        try:
            self.hello = self._receive("greet", OPEN_S)
        except BaseException:
            self.close()
            raise
        self._seen = time.monotonic()
        for thread in self._threads:
            thread.start()

    def _open(self, token: str) -> _WebSocket:
        host, port, is_encrypted = self.options.check_address()
        websockets = need("websockets.sync.client")
        headers = {"Authorization": f"Api-Key {token}"} if token else None
        try:
            # A socket of our own: no proxy and no redirect receives the token.
            plain = socket.create_connection((host, port), timeout=OPEN_S)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened: _WebSocket = websockets.connect(
                self.address,
                sock=plain,
                ssl=self._tls() if is_encrypted else None,
                compression=None,
                max_size=MAX_ANSWER,
                additional_headers=headers,
                open_timeout=OPEN_S,
                close_timeout=CLOSE_S,
                ping_interval=None,
            )
            return opened
        except (OSError, TimeoutError, need("websockets.exceptions").WebSocketException) as error:
            raise DriveError(f"The plan server {self.address}: {_why_not(error)}") from error

    def _tls(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.options.tls_ca or None)
        except (OSError, ssl.SSLError) as error:
            raise PlanError(f"tls_ca={self.options.tls_ca} cannot be read ({error}).") from error

    def guard(self, interrupt: Callable[[str], None]) -> None:
        """Call `interrupt` once, from another thread, with the reason when the server is lost."""
        self._seen = time.monotonic()
        self._guards.append(interrupt)

    def round_trip_s(self, count: int = 10) -> float:
        """Return the median time between a heartbeat and its answer [s].

        Raises:
            DriveError: The server is lost.
        """
        times = []
        for _ in range(count):
            began = time.monotonic()
            try:
                self._ws.ping().wait(OPEN_S)
            except (OSError, need("websockets.exceptions").ConnectionClosed) as error:
                self._fail(f"closed the connection ({_why_not(error)})")
            self._raise_if_failed()
            times.append(time.monotonic() - began)
        return sorted(times)[count // 2]

    def ask(self, message: Message, *, timeout_s: float = PREPARE_S) -> Message:
        """Send a message and return the answer.

        Raises:
            PlanError: The server refused the message; the text is the server's.
            DriveError: The server is lost, or took longer than `timeout_s`.
        """
        what = str(message.get("request", "plan"))
        data = pack(message)
        self._raise_if_failed()
        try:
            self._ws.send(data)
        except (OSError, need("websockets.exceptions").ConnectionClosed) as error:
            self._fail(f"closed the connection ({_why_not(error)})")
        return self._receive(what, timeout_s)

    def _receive(self, what: str, timeout_s: float) -> Message:
        until = time.monotonic() + timeout_s
        while True:
            self._raise_if_failed()
            try:
                data = self._ws.recv(timeout=POLL_S)
                break
            except TimeoutError:
                if not time.monotonic() <= until:
                    self._fail(f"took longer than {timeout_s:g} s to {_verb(what)}")
            except (OSError, need("websockets.exceptions").ConnectionClosed) as error:
                self._fail(f"closed the connection ({_why_not(error)})")
        if isinstance(data, str):
            raise PlanError(f"The plan server {self.address} refused: {data[:1000]}")
        return unpack(data)

    def _raise_if_failed(self) -> None:
        if self._failed:
            raise DriveError(
                f"The plan server {self.address} {self._failed}. The arm was stopped. Start the "
                "server again, or look at the network"
            )

    def _fail(self, why: str) -> None:
        """Note the first failure, stop the arm, and free whatever waits for the server."""
        with self._once:
            if self._failed or self._closing.is_set():
                return
            self._failed = why
        for interrupt in self._guards:
            interrupt(f"the plan server {why}")
        with contextlib.suppress(OSError):
            self._ws.socket.shutdown(socket.SHUT_RDWR)

    def _beat(self) -> None:
        """Send heartbeats and note their answers."""
        pause_s = self.options.heartbeat_s / BEATS
        closed = need("websockets.exceptions").ConnectionClosed
        while not self._closing.wait(pause_s):
            try:
                if self._ws.ping().wait(self.options.heartbeat_s):
                    self._seen = time.monotonic()
            except (closed, OSError) as error:
                self._fail(f"closed the connection ({_why_not(error)})")
                return

    def _watch(self) -> None:
        """Fail as soon as the connection is closed, or the newest answered heartbeat too old."""
        limit_s, closed = self.options.heartbeat_s, need("websockets.protocol").State.CLOSED
        while not self._closing.wait(POLL_S):
            if self._ws.state is closed:
                self._fail("closed the connection")
                return
            if not self._guards:  # no arm yet: loading a scene may hold these threads up
                continue
            if not time.monotonic() - self._seen <= limit_s:
                self._fail(f"has answered no heartbeat for {limit_s:g} s")
                return

    def close(self) -> None:
        """Say goodbye to the server and close the connection."""
        self._closing.set()
        if self._failed:
            self._ws.close_socket()
        else:
            self._ws.close()


def _verb(request: str) -> str:
    return {"greet": "greet", "goal": "take a goal", "connect": "take the arm's conventions"}.get(
        request, "plan" if request in ("act", "plan") else request
    )


def _why_not(error: Exception) -> str:
    """Return why a connection failed, with a fix."""
    response = getattr(error, "response", None)
    if response is not None:
        body = bytes(response.body or b"").decode(errors="replace").strip()
        return f"refused the connection: {response.status_code} {body[:300]}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"is not recognised ({error.verify_message}): give its certificate as tls_ca=FILE"
    if isinstance(error, ConnectionRefusedError):
        return "does not run at this address: start `worldmodel serve` there"
    if isinstance(error, socket.gaierror):
        return "its host name is not known"
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        text = os.strerror(error.errno) if error.errno > 0 else text
    return text
