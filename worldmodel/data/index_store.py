"""Results of an index, appended as they come, so that a run that ends early resumes.

A file of JSON lines: first the options, then for each unit its key, the fingerprint of its files
and its rows. A line that cannot be read, such as one that a power cut tore, counts as missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from worldmodel.atomic_io import named_errors, read_json_lines, write_text

Row = dict[str, Any]
SEEN = ".seen.jsonl"
MAX_STEPS, MAX_RECORDS = 2**24, 2**40
"""Maximum number of control steps of an episode, and of episodes."""


class IndexStore:
    """Rows of each unit that was inspected, by the unit's key.

    Args:
        folder: Output folder of the index.
        options: Everything that the rows depend on; results of other options are dropped.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self.path = folder / SEEN
        self.options = json.loads(json.dumps(options))
        self.units: dict[str, tuple[str, list[Row]]] = {}
        self._in_file: list[str | None] = []
        lines = read_json_lines(self.path)
        if next(lines, None) == {"options": self.options}:
            found = [_unit(line) for line in lines]
            self.units = {unit[0]: unit[1:] for unit in found if unit is not None}
            self._in_file = [unit and unit[0] for unit in found]
        self._file: IO[str] | None = None

    def get(self, key: str, fingerprint: str) -> list[Row] | None:
        """Return the rows of a unit, or None if it changed or was not inspected."""
        before, rows = self.units.get(key, ("", []))
        return rows if before == fingerprint else None

    def add(self, key: str, fingerprint: str, rows: list[Row]) -> None:
        """Append the rows of a unit; they survive the end of the process."""
        self.units[key] = (fingerprint, rows)
        if self._file is None:
            self._rewrite()
            self._file = self.path.open("a", encoding="utf-8")
        else:
            with named_errors(self.path):
                self._file.write(_line(key, fingerprint, rows))
                self._file.flush()
            self._in_file.append(key)

    def replace(self, units: dict[str, tuple[str, list[Row]]]) -> None:
        """Write these units in place of what the file holds."""
        self.units = units
        self._rewrite()

    def close(self, keys: Sequence[str]) -> None:
        """Keep only the units in `keys`, in that order, and close the file.

        A file that holds just these is left as it is.
        """
        if self._file is not None:
            self._file.close()
        self.units = {key: self.units[key] for key in keys if key in self.units}
        if self._in_file != list(self.units):
            self._rewrite()

    def _rewrite(self) -> None:
        lines = [json.dumps({"options": self.options}) + "\n"]
        lines += [_line(key, *value) for key, value in self.units.items()]
        write_text(self.path, "".join(lines))
        self._in_file = list(self.units)


def _line(key: str, fingerprint: str, rows: list[Row]) -> str:
    return json.dumps({"unit": key, "print": fingerprint, "rows": rows}) + "\n"


def _unit(line: object) -> tuple[str, str, list[Row]] | None:
    if not isinstance(line, dict):
        return None
    key, fingerprint, rows = line.get("unit"), line.get("print"), line.get("rows")
    if not isinstance(key, str) or not isinstance(fingerprint, str) or not isinstance(rows, list):
        return None
    return (key, fingerprint, rows) if all(map(_is_row, rows)) else None


FACTS = {"path": str, "record": int, "layout": str}
REJECTED = {**FACTS, "reason": str, "message": str}
ACCEPTED = {
    **FACTS,
    "id": str,
    "steps": int,
    "seconds": float,
    "camera": str,
    "cameras": dict,
    "state_dim": int,
    "action_dim": int,
    "notes": list,
}
SUMMARY = {"root": str, "accepted": int, "rejected": int, "reasons": dict, "notes": dict}


def _has(row: object, facts: Mapping[str, type]) -> bool:
    return isinstance(row, dict) and all(type(row.get(key)) is facts[key] for key in facts)


def _is_row(row: object) -> bool:
    """Return whether a value has the entries of a row, accepted or rejected."""
    return _has(row, REJECTED) if isinstance(row, dict) and "reason" in row else is_accepted(row)


def is_accepted(row: object) -> bool:
    """Return whether a value has the entries of an accepted row, with plausible counts."""
    if not isinstance(row, dict) or not _has(row, ACCEPTED):
        return False
    sizes = (row["steps"], row["state_dim"], row["action_dim"])
    return all(0 < size <= MAX_STEPS for size in sizes) and 0 <= row["record"] < MAX_RECORDS


def is_summary(value: object) -> bool:
    """Return whether a value has the entries of a summary."""
    return (
        isinstance(value, dict)
        and _has(value, SUMMARY | {"fingerprint": str})
        and min(value["accepted"], value["rejected"]) >= 0
    )
