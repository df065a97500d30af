"""Receive an HTTP answer in a thread, so that no server can hold the caller.

A server may stall in the middle of a name look-up, a handshake, a header or a chunk's size, where
socket time-outs do not add up. The caller only waits for the next block, as long as it wants.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPException, HTTPResponse
from typing import IO

CHUNK_BYTES = 1 << 20
QUEUED_BLOCKS = 8
MAX_DIGITS = 18
"""Digits of the longest content that an answer may announce."""


class StreamError(Exception):
    """The connection failed, stalled, or ended before the answer did."""


@dataclass(frozen=True)
class Head:
    """Status and headers of an answer."""

    status: int
    reason: str
    headers: Message
    """Headers of the last answer."""
    hops: tuple[Message, ...] = field(default=())
    """Headers of the redirects that led to it, in order."""

    @property
    def is_chunked(self) -> bool:
        """Return whether the answer marks its own end, instead of stating its length."""
        return "chunked" in str(self.headers.get("Transfer-Encoding", "")).lower()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects and keep their headers; never leave HTTPS."""

    def __init__(self) -> None:
        self.hops: list[Message] = []

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> urllib.request.Request | None:
        self.hops.append(headers)
        allowed = ("https://",) if req.full_url.startswith("https://") else ("https://", "http://")
        if not newurl.lower().startswith(allowed):
            raise StreamError(f"it redirects to {newurl[:200]}, which is not {allowed[0]}...")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


class Stream:
    """An HTTP answer: its head, then its body in blocks.

    Args:
        url: Address; redirects are followed.
        headers: Headers of the request.
        timeout_s: Longest silence on the connection [s].
    """

    def __init__(self, url: str, headers: Mapping[str, str], *, timeout_s: float) -> None:
        self._request = urllib.request.Request(url, headers=dict(headers))
        self._timeout_s = timeout_s
        self._parts: queue.Queue[Head | bytes | Exception] = queue.Queue(QUEUED_BLOCKS)
        self._stopped = threading.Event()
        threading.Thread(target=self._receive, daemon=True, name="download").start()

    def head(self, wait_s: float) -> Head:
        """Return status and headers.

        Raises:
            StreamError: The server cannot be reached, or sent no headers in `wait_s` [s].
        """
        found = self._next(wait_s)
        assert isinstance(found, Head)
        return found

    def block(self, wait_s: float) -> bytes:
        """Return the next block; empty at the end of a complete answer.

        Raises:
            StreamError: The answer broke off, or nothing arrived in `wait_s` [s].
        """
        found = self._next(wait_s)
        assert isinstance(found, bytes)
        return found

    def close(self) -> None:
        """Stop receiving."""
        self._stopped.set()

    def _next(self, wait_s: float) -> Head | bytes:
        try:
            found = self._parts.get(timeout=max(0.0, wait_s))
        except queue.Empty:
            raise StreamError(f"nothing arrived for {wait_s:.3g} s") from None
        if isinstance(found, Exception):
            raise StreamError(str(getattr(found, "reason", "")) or repr(found)) from found
        return found

    def _put(self, part: Head | bytes | Exception) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._parts.put(part, timeout=0.2)
                return

    def _receive(self) -> None:
        redirects = _Redirects()
        opener = urllib.request.build_opener(redirects)
        try:
            answer = opener.open(self._request, timeout=self._timeout_s)
            self._put(Head(answer.status, answer.reason, answer.headers, tuple(redirects.hops)))
            with contextlib.closing(answer):
                self._read(answer)
        except urllib.error.HTTPError as error:
            self._put(Head(error.code, str(error.reason), error.headers, tuple(redirects.hops)))
            error.close()
        except (OSError, HTTPException, ValueError, StreamError) as error:
            self._put(error)

    def _read(self, answer: HTTPResponse) -> None:
        left = content_length(answer.headers)
        while not self._stopped.is_set() and left != 0:
            block = answer.read1(CHUNK_BYTES if left is None else min(left, CHUNK_BYTES))
            if not block and left:
                raise StreamError(f"the connection was closed {left} bytes early")
            if not block:
                break
            left = None if left is None else left - len(block)
            self._put(block)
        self._put(b"")


def content_length(headers: Message) -> int | None:
    """Return the length of an answer's body; None if it is chunked or has none.

    Raises:
        StreamError: The length is not a number, or there are several.
    """
    if "chunked" in str(headers.get("Transfer-Encoding", "")).lower():
        return None
    texts = {str(text).strip() for text in headers.get_all("Content-Length") or ()}
    if not texts:
        return None
    if len(texts) > 1:
        raise StreamError(f"it has several Content-Lengths: {', '.join(sorted(texts))[:100]}")
    (text,) = texts
    if not text.isdecimal() or len(text) > MAX_DIGITS:
        raise StreamError(f"its Content-Length is {text[:100]!r}, not a number of bytes")
    return int(text)
