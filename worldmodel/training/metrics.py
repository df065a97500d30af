"""Metrics of a run as JSON lines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from worldmodel.atomic_io import json_text, named_errors, write_text
from worldmodel.errors import TrainingError

Row = dict[str, float]


def _read_lines(path: Path) -> list[tuple[str, Row]]:
    """Return the lines of a metrics file and their rows, ignoring an incomplete last line.

    Raises:
        TrainingError: Another line is not a row; the message names file and line.
    """
    lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
    found: list[tuple[str, Row]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            int(row["step"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            if number == len(lines):
                break
            raise TrainingError(
                f"{path}, line {number} is not a row of metrics ({type(error).__name__}: {error}): "
                "delete that line, or choose another out="
            ) from error
        found.append((line, row))
    return found


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a metrics file, ignoring an incomplete last line; null becomes NaN.

    Raises:
        TrainingError: Another line is not a row; the message names file and line.
    """
    rows = [row for _, row in _read_lines(path)]
    return [{k: math.nan if v is None else v for k, v in row.items()} for row in rows]


class MetricsLog:
    """JSON lines log; rows from the resumed step on are removed, so no step is logged twice."""

    def __init__(self, path: Path, resume_step: int) -> None:
        kept = [line for line, row in _read_lines(path) if row["step"] < resume_step]
        # atomic: a kill here must not lose the rows
        write_text(path, "".join(f"{line}\n" for line in kept))
        self.path, self.file = path, path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, float]) -> None:
        """Append a row and flush it; a value that is not finite becomes null."""
        with named_errors(self.path):
            self.file.write(json_text(row) + "\n")
            self.file.flush()
