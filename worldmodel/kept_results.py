"""Results of single items, appended to a file as they come, so that a stopped run resumes.

A file of JSON lines: first what the results depend on, then a key and a value for each item. A line
that cannot be read, such as one that a power cut tore, counts as missing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

from worldmodel.atomic_io import named_errors, read_json_lines, write_text

log = logging.getLogger(__name__)


class KeptResults:
    """JSON values by key, which survive the end of the process once they are added.

    Use it as a context manager, which closes the file.
    """

    def __init__(
        self,
        path: Path | None,
        made_by: Mapping[str, object],
        fits: Callable[[object], bool] = lambda value: value is not None,
    ) -> None:
        """Read the results that an earlier run left.

        Args:
            path: File of the results; None keeps them in memory only.
            made_by: All that every result depends on, JSON serialisable; results that were made by
                something else are dropped.
            fits: Whether a value is of the kind that `add` gets; others count as missing.
        """
        self.path = path
        self._made_by: object = json.loads(json.dumps(made_by))
        self._values: dict[str, object] = {}
        lines = read_json_lines(path) if path else iter(())
        if next(lines, None) == {"made_by": self._made_by}:
            entries = (line for line in lines if isinstance(line, dict))
            self._values = {
                str(entry["key"]): entry["value"]
                for entry in entries
                if isinstance(entry.get("key"), str) and fits(entry.get("value"))
            }
        if self._values:
            log.info("%s: %d results of a stopped run are used", path, len(self._values))
        self._file: IO[str] | None = None

    def get(self, key: str) -> object | None:
        """Return the value of an item, or None if there is none."""
        return self._values.get(key)

    def add(self, key: str, value: object) -> None:
        """Append the value of an item.

        Raises:
            OSError: The disk is full; the error names the file.
        """
        if self.path and self._file is None:
            kept = [_line(*entry) for entry in self._values.items()]
            write_text(self.path, json.dumps({"made_by": self._made_by}) + "\n" + "".join(kept))
            self._file = self.path.open("a", encoding="utf-8")
        self._values[key] = value
        if self.path and self._file:
            with named_errors(self.path):
                self._file.write(_line(key, value))
                self._file.flush()

    def __enter__(self) -> KeptResults:
        """Return the results."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _line(key: str, value: object) -> str:
    return json.dumps({"key": key, "value": value}) + "\n"
