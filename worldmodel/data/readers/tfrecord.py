"""Read the records of a TFRecord file, and check their checksums.

A record is a length (8 bytes), its checksum (4), the payload, and its checksum (4); little-endian.
Source: TensorFlow, tensorflow/core/lib/io/record_writer.h. Records are found by seeking over the
payloads, so opening one reads no other.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from worldmodel.data.episode import EpisodeError
from worldmodel.data.readers.crc32c import masked_crc32c

HEADER, FOOTER = 12, 4
MAX_BYTES = 2**31 - 1
"""Maximum size of a payload [bytes]; protocol buffers cannot be larger."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies in its file."""

    start: int
    """Offset of the payload [bytes]."""
    length: int
    """Size of the payload [bytes]."""
    checksum: int
    """Stored checksum of the length."""
    fault: EpisodeError | None
    """Why the length cannot be trusted, or None."""

    @property
    def end(self) -> int:
        """Return the offset of the next record [bytes]."""
        return self.start + self.length + FOOTER


class RecordFile:
    """An open TFRecord file.

    Some writers leave all checksums 0. Such a file, recognised by its first record, is read without
    a check (`checked` is False); in any other file, a checksum of 0 is compared like the rest.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.file: io.FileIO = path.open("rb", buffering=0)
        self.size = os.fstat(self.file.fileno()).st_size
        first = self._read(0, HEADER)
        length = int.from_bytes(first[:8], "little")
        footer = self._read(HEADER + length, FOOTER) if length < self.size else b""
        self.checked = bool(first[8:].strip(b"\0") or footer.strip(b"\0"))

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def _read(self, start: int, count: int) -> bytes:
        self.file.seek(start)
        data = self.file.read(count)
        while len(data) < count and (more := self.file.read(count - len(data))):
            data += more
        return data

    def place(self, at: int) -> Place | None:
        """Return the place of the record whose header is at offset `at`, or None at the end.

        Raises:
            EpisodeError: The file ends inside the record, or its length is not possible.
        """
        header = self._read(at, HEADER)
        if not header:
            return None
        if len(header) < HEADER:
            raise EpisodeError("record_truncated", f"{self.name} ends inside a header")
        length, checksum = struct.unpack("<QI", header)
        fault = None
        if self.checked and masked_crc32c(header[:8]) != checksum:
            fault = self._damaged(f"the checksum of the length at byte {at} differs")
        place = Place(at + HEADER, length, checksum, fault)
        if length > MAX_BYTES or (length > self.size and not self.checked):
            raise fault or self._damaged(f"it claims {length} bytes at byte {at}")
        if place.end > self.size:
            message = f"{self.name}: {self.size - place.start} of {length + FOOTER} bytes"
            raise fault or EpisodeError("record_truncated", message)
        return place

    def payload(self, place: Place) -> bytes:
        """Read a payload and check it.

        Raises:
            EpisodeError: A checksum differs.
        """
        data = self._read(place.start, place.length)
        (checksum,) = struct.unpack("<I", self._read(place.start + place.length, FOOTER))
        if (self.checked or checksum) and masked_crc32c(data) != checksum:
            at = place.start - HEADER
            raise place.fault or self._damaged(f"the checksum of the record at byte {at} differs")
        return data

    def _damaged(self, what: str) -> EpisodeError:
        message = f"{self.name}: {what}. Download the shard again"
        return EpisodeError("record_damaged", message)


def scan(file: RecordFile) -> Iterator[bytes | EpisodeError]:
    """Yield each payload, or why it cannot be used; end where the next record cannot be found."""
    at = 0
    while True:
        try:
            place = file.place(at)
        except EpisodeError as error:
            yield error
            return
        if place is None:
            return
        at = place.end
        try:
            data = file.payload(place)
        except EpisodeError as error:
            yield error
            if place.fault is not None:  # neither checksum fits: the length may be wrong
                return
        else:
            yield place.fault or data


def read_records(path: Path) -> Iterator[bytes]:
    """Yield the payloads of a TFRecord file.

    Raises:
        EpisodeError: The file ends inside a record, or a checksum differs.
    """
    with RecordFile(path) as file:
        for outcome in scan(file):
            if isinstance(outcome, EpisodeError):
                raise outcome
            yield outcome


def find_records(path: Path) -> list[Place]:
    """Return the places of all records, reading only their headers."""
    places: list[Place] = []
    with RecordFile(path) as file:
        try:
            while (place := file.place(places[-1].end if places else 0)) is not None:
                places.append(place)
        except EpisodeError:
            pass  # the file is cut off: the records before can be read
    return places
