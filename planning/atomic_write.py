"""Write a small file completely or not at all, and JSON without NaN.

The same as `write_bytes` and `json_text` of `worldmodel.atomic_io`, which this package does not
import; tests/contracts/test_atomic_write.py compares them.
"""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path


def write_bytes(path: Path, data: bytes) -> None:
    """Write a binary file under a temporary name, flush it, and rename it; create its folder.

    Raises:
        OSError: The write failed, for example on a full disk; `path` keeps its old content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name[:40]}-{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file as `write_bytes` does; what is not UTF-8 is escaped."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return a value as JSON; NaN and infinity, which JSON lacks, become null.

    Raises:
        TypeError: The value is not JSON serialisable.
    """
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
        return json.dumps(finite, indent=indent)
