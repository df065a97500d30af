"""The JSON file with the counts and options of a command that writes one file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from planning.errors import PlanError

MARK = "written_by"


def summary_path(out: Path, command: str) -> Path:
    """Return the path of the summary beside an output file: its whole name and `.json`.

    Raises:
        PlanError: Another file has this name.
    """
    path = out.with_name(out.name + ".json")
    if not path.exists():
        return path
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get(MARK) != command:
        raise PlanError(
            f"{path} exists, and the summary of out={out} would overwrite it. Move it, or give "
            "another out=."
        )
    return path


def write_summary(path: Path, command: str, facts: Mapping[str, Any]) -> None:
    """Write the summary of a command to the result of `summary_path`."""
    from worldmodel.atomic_io import write_json

    write_json(path, {MARK: command, **facts})
