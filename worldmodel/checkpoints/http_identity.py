"""Which content an HTTP server offers: size, validators and checksum, as it announces them."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from worldmodel.checkpoints.http_stream import Head, StreamError, content_length

HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True)
class Identity:
    """Identity of a file on a server, also noted beside its first part on disk."""

    url: str
    size: int | None = None
    """Size of the whole file [bytes]; None if the answer marks its own end."""
    etag: str | None = None
    modified: str | None = None
    """Time of modification, as the server writes it."""
    sha256: str | None = None

    @property
    def validator(self) -> str | None:
        """Return the value for If-Range: a strong ETag, or the time of modification."""
        strong = self.etag is not None and self.etag.startswith('"')
        return self.etag if strong else self.modified

    def is_same(self, other: Identity) -> bool:
        """Return whether the sizes agree, no fact that both know differs, and one is the same."""
        pairs = [(getattr(self, n), getattr(other, n)) for n in ("etag", "modified", "sha256")]
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        return bool(known) and all(a == b for a, b in known) and self.size == other.size


def read_identity(path: Path) -> Identity | None:
    """Read the notes beside a partial file; return None if there are none or they are damaged."""
    try:
        notes = Identity(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    texts = (notes.etag, notes.modified, notes.sha256)
    good = all(t is None or (isinstance(t, str) and t.isprintable()) for t in texts)
    size: object = notes.size
    whole = size is None or (isinstance(size, int) and not isinstance(size, bool) and size > 0)
    return notes if good and whole and isinstance(notes.url, str) else None


def content_range(head: Head) -> tuple[int, int, int] | None:
    """Return the first byte, last byte and total size of a partial answer; None if unstated."""
    match = RANGE.fullmatch(str(head.headers.get("Content-Range", "")).strip())
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def announced_sha256(head: Head) -> str | None:
    """Return the SHA-256 checksum that any answer on the way announced.

    Hugging Face announces it on the redirect to its storage, as `X-Linked-ETag`.
    """
    for headers in (*head.hops, head.headers):
        linked = str(headers.get("X-Linked-ETag", "")).removeprefix("W/").strip('"').lower()
        if HEX_SHA256.fullmatch(linked):
            return linked
        digest = re.search(r"sha-256=:?([\w+/=]+)", str(headers.get("Repr-Digest", "")), re.I)
        text = digest[1] if digest else str(headers.get("x-amz-checksum-sha256", ""))
        with contextlib.suppress(binascii.Error, ValueError):
            raw = base64.b64decode(text, validate=True)
            if len(raw) == 32:
                return raw.hex()
    return None


def _linked_size(head: Head) -> int | None:
    sizes = [str(h.get("X-Linked-Size", "")) for h in (*head.hops, head.headers)]
    return next((int(text) for text in sizes if text.isdecimal()), None)


def identify(head: Head, url: str, *, size: int | None, sha256: str | None) -> Identity:
    """Return the identity of an answer's content.

    Args:
        head: Status and headers of the answer.
        url: Address that was asked.
        size: Size of the published file [bytes], if known.
        sha256: Checksum of the published file, if known.

    Raises:
        ValueError: The answer cannot be the file; the message states why.
    """
    headers = head.headers
    kind = str(headers.get("Content-Type", "")).lower()
    if "html" in kind and not url.endswith((".html", ".htm")):
        raise ValueError(
            f"answered with a web page ({kind}), perhaps of a network that asks for a log-in"
        )
    if str(headers.get("Content-Encoding", "identity")).lower() != "identity":
        raise ValueError(f"answered in the coding {headers['Content-Encoding']}, unasked")
    try:
        length = content_length(headers)
    except StreamError as error:
        raise ValueError(f"cannot be trusted: {error}") from error
    part = content_range(head)
    stated = part[2] if head.status == 206 and part else length
    sizes = {n for n in (size, _linked_size(head), stated) if n is not None}
    if len(sizes) > 1:
        raise ValueError(f"announces {stated} bytes; the published file has {min(sizes)}")
    total = sizes.pop() if sizes else None
    announced = announced_sha256(head)
    if total == 0:
        raise ValueError("announces an empty file")
    if total is None and not head.is_chunked and not (announced or sha256):
        raise ValueError("states neither the size of the file nor its end")
    if announced and sha256 not in (None, announced):
        raise ValueError(f"announces checksum {announced}, expected {sha256}")
    return Identity(url, total, headers.get("ETag"), headers.get("Last-Modified"), announced)
