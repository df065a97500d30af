"""WebSocket server of plans: access, limits and errors; what is planned is a session's.

A client connects, receives the greeting, and sends one packed message after another; each is
answered with a packed map, or with a text if it is wrong. A wrong message ends neither the
connection nor anybody else's. Source of the protocol: openpi-client 0.1.2,
`websocket_client_policy` (github.com/Physical-Intelligence/openpi, Apache-2.0).
"""

from __future__ import annotations

import asyncio
import hmac
import http
import logging
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from planning.errors import PlanError
from planning.remote.wire import Message, need, pack, unpack
from planning.serve_options import ListenOptions, is_loopback

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

log = logging.getLogger(__name__)
transport_log = logging.getLogger(f"{__name__}.transport")
transport_log.setLevel(logging.CRITICAL)  # a stranger's broken handshakes would fill the log

HANDSHAKE_S = 5.0
"""Time for a client's handshake, and for it to take an answer [s]."""
PING_S = 10.0
"""Interval of pings to a client, and time for their answer [s]."""
BUSY = 1013
"""WebSocket's code for: try again later."""
ENDED = 1001
"""WebSocket's code for: going away."""
HALF_OPEN = 16
"""Number of TCP connections that may be open beside those of the clients."""


class Session(Protocol):
    """Answers the messages of one client, one after another."""

    def answer(self, message: Message) -> Message:
        """Return the answer to a message.

        Raises:
            Exception: The message is wrong, or the planner failed.
        """


def user_text(error: Exception) -> str:
    """Return an error as a client may read it: of an unexpected one, only its kind."""
    if type(error).__module__.startswith(("planning.", "worldmodel.", "robot.")):
        return str(error)
    log.error("A request failed unexpectedly.", exc_info=error)
    return f"The server failed ({type(error).__name__}); its log has the details"


class PlanServer:
    """Serves sessions on one address.

    Args:
        open_session: Makes the session of a new client.
        hello: Greeting, sent to every client.
        options: Address, access and limits.
        token: What clients must present; empty for none.
        threads: Number of requests that are planned at the same time.
    """

    def __init__(
        self,
        open_session: Callable[[], Session],
        hello: Message,
        options: ListenOptions,
        token: str = "",
        *,
        threads: int = 1,
    ) -> None:
        self.open_session, self.options, self.token = open_session, options, token
        self.greeting = pack(hello)
        self.pool = ThreadPoolExecutor(threads, "plan")
        self.clients = self.sockets = 0
        self.hosts: frozenset[str] = frozenset()
        self.url = ""

    def _tls(self) -> ssl.SSLContext | None:
        if not self.options.tls_cert:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.options.tls_cert, self.options.tls_key)
        except (OSError, ssl.SSLError) as error:
            raise PlanError(
                f"tls_cert={self.options.tls_cert} tls_key={self.options.tls_key} cannot be used "
                f"({error}). Give a certificate and its key as PEM files."
            ) from error
        return context

    async def run(self, ready: Callable[[str], None]) -> None:
        """Serve until cancelled; `ready` receives the address.

        Raises:
            PlanError: The address cannot be used, or the certificate is wrong.
        """
        options, context = self.options, self._tls()
        try:
            server = await need("websockets.asyncio.server").serve(
                self._serve,
                options.host,
                options.port,
                ssl=context,
                compression=None,  # a compressed message could expand without bound
                max_size=options.max_message_mb * 2**20,
                max_queue=1,
                origins=[None],  # browsers name an origin, robots do not
                process_request=self._admit,
                create_connection=_bounded(self),
                open_timeout=HANDSHAKE_S,
                close_timeout=1.0,
                ping_interval=PING_S,
                ping_timeout=PING_S,
                logger=transport_log,
            )
        except (OSError, OverflowError) as error:
            raise PlanError(
                f"host={options.host} port={options.port} cannot be used ({error}). Choose another "
                "port; port=0 takes a free one."
            ) from error
        try:
            port = int(server.sockets[0].getsockname()[1])
            shown = f"[{options.host}]" if ":" in options.host else options.host
            self.url = f"{'wss' if context else 'ws'}://{shown}:{port}"
            if is_loopback(options.host):
                names = (shown, "127.0.0.1", "localhost", "[::1]")
                self.hosts = frozenset(f"{name}:{port}" for name in names)
            ready(self.url)
            await server.serve_forever()
        finally:
            self.pool.shutdown(wait=False, cancel_futures=True)

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse a handshake of another host name, without the token, or of one client too many."""
        hosts = request.headers.get_all("Host")
        if self.hosts and (len(hosts) != 1 or hosts[0] not in self.hosts):
            return connection.respond(http.HTTPStatus.FORBIDDEN, "Use the address as printed.\n")
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        given = request.headers.get_all("Authorization")
        wanted = f"Api-Key {self.token}".encode()
        if self.token and not (
            len(given) == 1 and hmac.compare_digest(given[0].encode(errors="replace"), wanted)
        ):
            text = "Present the server's token: token_file=FILE, or api_key of openpi's client.\n"
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, text)
        if self.clients >= self.options.max_clients:
            text = f"The server has its {self.options.max_clients} clients (max_clients).\n"
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, text)
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        """Answer one client until it leaves."""
        closed = need("websockets.exceptions").ConnectionClosed
        if self.clients >= self.options.max_clients:
            await connection.close(BUSY, "max_clients")
            return
        self.clients += 1
        log.info("A client of %s connected (%d).", connection.remote_address, self.clients)
        try:
            await self._converse(connection)
        except closed:
            pass
        except TimeoutError:
            await connection.close(ENDED, f"no request within {self.options.idle_s:g} s (idle_s)")
        finally:
            self.clients -= 1
            log.info("A client left (%d).", self.clients)

    async def _converse(self, connection: ServerConnection) -> None:
        session, total_s = self.open_session(), 0.0
        await self._send(connection, self.greeting)
        while True:
            async with asyncio.timeout(self.options.idle_s):
                data = await connection.recv()
            began = time.perf_counter()
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(self.pool, self._answer, session, data, total_s)
            left = loop.create_task(connection.wait_closed())
            await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():  # the client left: what waits for its turn is not planned
                work.cancel()
                return
            left.cancel()
            await self._send(connection, work.result())
            total_s = time.perf_counter() - began

    async def _send(self, connection: ServerConnection, answer: bytes | str) -> None:
        async with asyncio.timeout(HANDSHAKE_S):
            await connection.send(answer)

    def _answer(self, session: Session, data: bytes | str, total_s: float) -> bytes | str:
        """Return the packed answer to a message, or the text of an error."""
        began = time.perf_counter()
        try:
            if isinstance(data, str):
                raise PlanError("Send packed bytes; this message is a text")
            answer = session.answer(unpack(data))
            timing = {"infer_ms": 1000 * (time.perf_counter() - began)}
            if total_s:
                timing["prev_total_ms"] = 1000 * total_s
            return pack(answer | {"server_timing": timing})
        except Exception as error:  # noqa: BLE001 - a client's message must not end the server
            return user_text(error)


def _bounded(owner: PlanServer) -> type[ServerConnection]:
    """Return a connection class that refuses TCP connections beyond a number.

    Clients are counted after their handshake; this bounds those that never make one.
    """
    base: type[ServerConnection] = need("websockets.asyncio.server").ServerConnection

    class Bounded(base):
        """A connection that counts."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            owner.sockets += 1
            super().connection_made(transport)
            if owner.sockets > owner.options.max_clients + HALF_OPEN:
                assert isinstance(transport, asyncio.Transport)
                transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            owner.sockets -= 1
            super().connection_lost(exc)

    return Bounded
