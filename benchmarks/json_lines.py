"""Append results to a file of JSON lines, so that a killed run resumes."""

from __future__ import annotations

import json
from pathlib import Path


def append_line(path: Path, row: object) -> None:
    """Append a row; what a killed run left of its last line keeps a line of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        size = file.seek(0, 2)
        if size:
            file.seek(size - 1)
        torn = size > 0 and file.read(1) != b"\n"
        file.write(b"\n" * torn + json.dumps(row).encode() + b"\n")
