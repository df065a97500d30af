"""Write the errors of imagined objects by step into docs/results.md, from the probes' results.

python benchmarks/rollouts.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from page_blocks import fill_blocks, markdown_table

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "results.md"
SHOWN = ("1", "2", "4", "6", "8", "10", "12", "14")
"""Imagined steps of the table."""
KINDS = ("pushed", "lifted", "still")


def _cell(row: dict[str, Any] | None) -> str:
    return "-" if row is None else f"{row['imagined_cm']:.1f} / {row['copy_cm']:.1f}"


def main() -> None:
    """Write one row for each model and kind."""
    rows = []
    for file in sorted((HERE / "results" / "probes").glob("*.json")):
        found = json.loads(file.read_text(encoding="utf-8")).get("rollouts")
        if not found:
            continue
        for kind in KINDS:
            cells = [_cell(found[kind].get(step)) for step in SHOWN]
            last = found[kind][max(found[kind], key=int)]
            floor, turn = f"{last['encoded_cm']:.1f}", f"{last['yaw_deg']:.0f}"
            rows.append([file.stem, kind, *cells, floor, turn, last["clips"]])
    head = ["model", "object", *(f"{k} steps" for k in SHOWN), "encoded", "yaw [deg]", "clips"]
    fill_blocks(PAGE, {"rollouts": markdown_table(head, rows)})
    print(PAGE)


if __name__ == "__main__":
    main()
