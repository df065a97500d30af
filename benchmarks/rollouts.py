"""Write the errors of imagined objects by step into docs/results.md.

python benchmarks/rollouts.py [NAME=runs/probes/summary.json ...]

Each NAME=FILE stores the rollouts of a run of `worldmodel inspect probes` first.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from evaluate import stored
from page_blocks import fill_blocks, markdown_table

from worldmodel.atomic_io import write_json

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "rollouts"
PAGE = HERE.parent / "docs" / "results.md"
SHOWN = ("1", "2", "4", "6", "8", "10", "12", "14")
"""Imagined steps of the table."""
KINDS = ("pushed", "lifted", "still")


def _cell(row: dict[str, Any] | None) -> str:
    return "-" if row is None else " / ".join(_number(row[f"{k}_cm"]) for k in ("imagined", "copy"))


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def main() -> None:
    """Store new results, then write the page."""
    for word in sys.argv[1:]:
        name, file = word.split("=", 1)
        summary = json.loads(Path(file).read_text(encoding="utf-8"))
        write_json(stored(name, RESULTS), summary["rollouts"])
    write_page()
    print(PAGE)


def write_page() -> None:
    """Write one row for each model and kind of object."""
    rows = []
    for file in sorted(RESULTS.glob("*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        for kind in KINDS:
            cells = [_cell(found[kind].get(step)) for step in SHOWN]
            last = found[kind][max(found[kind], key=int)]
            floor, turn = _number(last["encoded_cm"]), _number(last["yaw_deg"], 0)
            rows.append([file.stem, kind, *cells, floor, turn, last["clips"]])
    head = ["model", "object", *(f"{k} steps" for k in SHOWN), "encoded", "yaw [deg]", "clips"]
    fill_blocks(PAGE, {"rollouts": markdown_table(head, rows)})


if __name__ == "__main__":
    main()
