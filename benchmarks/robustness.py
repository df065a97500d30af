"""Run the checks of docs/robustness.md that are tests, and fill its table of figures.

`python benchmarks/robustness.py [cases] [fuzz] [kills] [flips]` (about ten minutes in all) runs the
named checks, writes their counts to benchmarks/results/robustness.json, and fills the table from it
and from the results of the other scripts that the table names. Without a name it only fills the
table.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from page_blocks import fill_blocks, markdown_table

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(__file__).resolve().parent / "results"
RESULT = FOLDER / "robustness.json"
PAGE = ROOT / "docs" / "robustness.md"
PYTEST = ("-m", "pytest", "-q", "-s", "-p", "no:cacheprovider")
CHECKS = {
    "cases": ("tests/cases/run_all.py",),
    "fuzz": (*PYTEST, "tests/planning/cli/test_fuzz.py"),
    "kills": (*PYTEST, "-m", "slow", "-k", "twenty", "tests/worldmodel/training/test_post.py"),
    "flips": (*PYTEST, "-k", "fifty", "tests/worldmodel/training/test_loop.py"),
}
"""Check -> what Python runs for it."""
COMMANDS = {
    "cases": "make cases",
    "fuzz": "pytest tests/planning/cli/test_fuzz.py",
    "kills": "pytest -m slow -k twenty tests/worldmodel/training/test_post.py",
    "flips": "pytest -k fifty tests/worldmodel/training/test_loop.py",
}
SAME = "the same"


def counted(check: str, text: str) -> dict[str, int]:
    """Return the counts that the output of a check tells.

    Raises:
        ValueError: It does not tell that the check was passed.
    """
    if check == "cases":
        rows = re.findall(r"(\d+) of (\d+) cases as expected", text)
        right, of = (sum(int(row[i]) for row in rows) for i in (0, 1))
        found = {"right": right, "of": of}
    elif check == "fuzz":
        counts: Counter[str] = Counter()
        for row in re.findall(r"[\w -]+: (\{.*?\})$", text, re.MULTILINE):
            counts.update(ast.literal_eval(row))
        found = dict(counts)
    else:
        found = {"right": 20 if check == "kills" else 50}
    passed = re.search(r"\d+ passed|cases as expected", text)
    whole = found.get("of", 0) == found.get("right", 0) or check != "cases"
    if not (passed and whole and sum(found.values())) or re.search(r"\d+ failed", text):
        raise ValueError(f"{check} was not passed:\n{text[-2000:]}")
    return found


def run(check: str) -> dict[str, int]:
    """Run a check and return its counts."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, *CHECKS[check]]
    done = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return counted(check, done.stdout)


def results_of(name: str) -> Any:
    """Return the results of another script."""
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def test_rows(found: dict[str, dict[str, int]]) -> list[tuple[str, str, str]]:
    """Return the rows of the checks that are tests."""
    cases, fuzz = found["cases"], sum(found["fuzz"].values())
    rows = {
        "cases": ("known faults that give what they should", f"{cases['right']} of {cases['of']}"),
        "fuzz": (
            "wrong numbers of every numeric option of every command: refused by name or in range",
            f"{fuzz:,} of {fuzz:,}; bare tracebacks 0, accepted silently 0",
        ),
        "kills": (
            "training killed 20 times, equal to the uninterrupted run in every bit",
            "20 of 20",
        ),
        "flips": ("flipped bits of a checkpoint that are found", "50 of 50"),
    }
    return [(*row, f"`{COMMANDS[name]}`") for name, row in rows.items() if name in found]


def signal_rows(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the rows of commands that signals ended."""
    runs = [run for signals in found["commands"].values() for run in signals.values()]
    left, slowest = sum(r["processes_left"] for r in runs), max(r["processor_s"] for r in runs)
    commands = len(found["commands"])
    return [
        (
            f"{commands} long commands ended by SIGINT, SIGTERM and SIGHUP: processes left",
            f"{left} in {len(runs)} (signals.json)",
            "`python benchmarks/signals.py`",
        ),
        (
            "their exit status is the signal's",
            f"{sum(r['exit_status_is_right'] for r in runs)} of {len(runs)}",
            SAME,
        ),
        ("their processor time from signal to end, longest", f"{slowest} s, limit 2 s", SAME),
        (
            "their time from signal to end, on a busy machine: within 2 s, longest",
            f"{found['within_target']} of {len(runs)}, {found['slowest_s']} s",
            SAME,
        ),
    ]


def cost_rows(scale: dict[str, Any], cycle: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the rows of what all of this costs."""
    earlier, raw, cpu = scale["index_of_lists"]["earlier"], scale["raw"], scale
    ratios = {name: row["ratio"] for name, row in cpu["index_and_clips_cpu"].items()}
    inside = cycle["cycle without encoding and plan"]
    script = "python benchmarks/data_scale.py"
    return [
        (
            f"index of {earlier['episodes']:,} episodes of lists and rows",
            f"{earlier['cpu_s']:.0f} s of processor time (data_scale.json)",
            f"`{script} lists`",
        ),
        (
            "bytes read to open an RLDS episode, per byte of it",
            f"{scale['rlds']['bytes_read_per_record_bytes']:.2f}",
            f"`{script} rlds`",
        ),
        (
            "bytes read to inspect a raw episode, per byte of it",
            ", ".join(
                f"{row['inspection_bytes_per_episode_bytes']:.2f} ({row['steps']} steps)"
                for row in raw.values()
            ),
            f"`{script} raw`",
        ),
        (
            "processor time of `data index`, per that before all of this",
            f"raw {ratios['raw DROID, index']:.2f}, RLDS {ratios['RLDS, index']:.2f}",
            f"`{script} before=DIR`",
        ),
        (
            "the same of opening a data set and reading 100 clips (RLDS compares checksums now)",
            f"raw {ratios['raw DROID, 100 clips']:.2f}, RLDS {ratios['RLDS, 100 clips']:.2f}",
            SAME,
        ),
        (
            "the same of a drive's control cycle: whole, without encoding and plan",
            f"{cycle['cycle']['paired_ratio']:.2f}, {inside['paired_ratio']:.2f} "
            "(drive_cycle.json)",
            "`python benchmarks/drive_cycle.py before=DIR`",
        ),
    ]


def write_page(found: dict[str, dict[str, int]]) -> None:
    """Fill the table of docs/robustness.md."""
    hostile, robot = results_of("hostile_files"), results_of("robot")
    rows = [
        *test_rows(found),
        (
            f"damaged or hostile files of {len(hostile['formats'])} formats that are held",
            f"{hostile['held']:,} of {hostile['inputs']:,} (hostile_files.json)",
            "`python benchmarks/hostile_files.py`",
        ),
        *signal_rows(results_of("signals")),
        *cost_rows(results_of("data_scale"), results_of("drive_cycle")),
        (
            "commands inside all limits: through the layer alone, over the protocol",
            f"{robot['layer']['commands']:,}, {robot['commands']['commands']:,} "
            "([faults](robot-faults.md))",
            "`python benchmarks/robot_safety.py`",
        ),
    ]
    fill_blocks(PAGE, {"robustness": markdown_table(("figure", "value", "command"), rows)})


def main() -> None:
    """Run the named checks and fill the table."""
    stored = json.loads(RESULT.read_text("utf-8")) if RESULT.is_file() else {}
    for check in sys.argv[1:]:
        if check not in CHECKS:
            sys.exit(f"{check!r} is unknown: {', '.join(CHECKS)}")
        stored[check] = run(check)
        RESULT.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
        print(check, stored[check], flush=True)
    write_page(stored)
    print(PAGE)


if __name__ == "__main__":
    main()
