"""What the guard of CUDA ran on the make-believe device, and that it fails on faults put back.

    python benchmarks/cuda_guard.py       # run it, and write the results and docs/cuda.md
    python benchmarks/cuda_guard.py page  # only the page

Needs Linux and g++; no CUDA device. The tests (`tests/cuda_guard`) demand the same of each record.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from page_blocks import fill_blocks, markdown_table, wrap

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.cuda_guard.faults import FAULTS, Fault
from tests.cuda_guard.guards import GUARDS, MOST_MOVED, Row
from tests.cuda_guard.test_cuda_guard import EXPECTED, build, read_records, run_cases

HERE = Path(__file__).resolve().parent
OUT, PAGE = HERE / "results" / "cuda_guard.json", HERE.parent / "docs" / "cuda.md"


def measure() -> dict[str, Any]:
    """Run the cases with and without faults; return what was recorded."""
    with tempfile.TemporaryDirectory() as folder:
        records = read_records(run_cases(build(Path(folder))))
    cases = [case_row(name, records[name]) for name in sorted(EXPECTED)]
    faults = [fault_row(name, fault, records) for name, fault in FAULTS.items()]
    return {"cases": cases, "faults": faults}


def case_row(name: str, row: Row) -> dict[str, Any]:
    """Return the figures of a case without a fault."""
    step = row["step"]
    return {
        "case": name,
        "ended": not row["error"],
        "captures": row["captures"],
        "replays": row["replays"],
        "captured_waits": sum(row["captured"].values()),
        "step_waits": sum(step["waits"].values()) if step else None,
        "step_pageable": pageable(step) if step and name.startswith("train_") else None,
        "step_captures": step["graphs"].get("captures", 0) if step else None,
        "activations": row["figures"].get("activations"),
    }


def pageable(step: dict[str, dict[str, int]]) -> int:
    """Return the number of copies to the device for which the host waits."""
    return sum(n for kind, n in step["uploads"].items() if not kind.startswith("pinned"))


def shown(guard: str, row: Row) -> str:
    """Return what a guard looks at in a record."""
    step = row["step"]
    if guard == "moves_few_bytes":
        return f"{row['figures']['activations']:.1f} activations a layer"
    if guard == "never_waits_in_a_capture":
        return f"{sum(row['captured'].values())} waits in captures"
    if guard == "replays_later_plans":
        return f"{step['graphs'].get('captures', 0)} captures in two later plans"
    if guard == "frees_nothing_early":
        return f"{step['freed'].get('early', 0)} tensors freed early"
    if guard == "waits_in_steps_where_allowed":
        return f"{sum(step['waits'].values())} waits, {pageable(step)} pageable copies a step"
    return "ends" if not row["error"] else error_name(row["error"])


def error_name(traceback: str) -> str:
    """Return the name of the error at the end of a traceback."""
    return traceback.strip().splitlines()[-1].split(":")[0].rpartition(".")[2]


def fault_row(name: str, fault: Fault, records: dict[str, Row]) -> dict[str, Any]:
    """Return what a guard says of a case with a fault, and without."""
    try:
        GUARDS[fault.guard](fault.case, records[name])
    except AssertionError:
        failed = True
    else:
        failed = False
    return {
        "fault": fault.about,
        "case": fault.case,
        "guard": fault.guard,
        "guard_fails": failed,
        "with": shown(fault.guard, records[name]),
        "without": shown(fault.guard, records[fault.case]),
    }


def cell(value: object) -> str:
    """Return a figure, or a dash."""
    return "-" if value is None else str(value)


def blocks(found: dict[str, Any]) -> dict[str, str]:
    """Return the blocks of docs/cuda.md."""
    cases, faults = found["cases"], found["faults"]
    recorded = [r for r in cases if r["step_waits"] is not None or r["captures"]]
    names = ("step_waits", "step_pageable", "captures", "replays", "captured_waits")
    head = ["case", "waits", "pageable copies", "graphs captured", "replayed", "waits in them"]
    table = markdown_table(
        head, ([f"`{r['case']}`", *(cell(r[name]) for name in names)] for r in recorded)
    )
    others = ", ".join(f"`{r['case']}`" for r in cases if r not in recorded)
    ended = sum(r["ended"] for r in cases)
    moved = ", ".join(
        f"{r['activations']:.1f} (`{r['case']}`)" for r in cases if r["case"] in MOST_MOVED
    )
    lines = [
        wrap(
            f"{ended} of {len(cases)} cases ran to their end without an operation on two devices. "
            f"Bytes that the elementwise operators of a layer move, in activations: {moved}. "
            "Waits and copies are those of one recorded training step, or of two later plans."
        ),
        table,
        wrap(f"Without a recorded step: {others}."),
    ]
    put_back = markdown_table(
        ["fault put back", "case", "with it", "without it", "the guard fails"],
        (
            [r["fault"], f"`{r['case']}`", r["with"], r["without"], str(r["guard_fails"]).lower()]
            for r in faults
        ),
    )
    return {"guard": "\n\n".join(lines), "guard-faults": put_back}


def write_page(found: dict[str, Any]) -> None:
    """Fill the blocks of docs/cuda.md."""
    fill_blocks(PAGE, blocks(found))


def main(words: list[str]) -> None:
    """Run the guard unless only the page is written; exit with 1 if a guard sees no fault."""
    if words not in ([], ["page"]):
        sys.exit(f"{words} is unknown; known: nothing, or page")
    if not words:
        OUT.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    found = json.loads(OUT.read_text(encoding="utf-8"))
    write_page(found)
    for part in blocks(found).values():
        print(part)
    ended = all(row["ended"] for row in found["cases"])
    if not ended or not all(row["guard_fails"] for row in found["faults"]):
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
