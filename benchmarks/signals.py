"""Measure how soon every long command ends after SIGINT, SIGTERM and SIGHUP.

`python benchmarks/signals.py [COMMAND ...]` (about 10 minutes for all) prints a table and writes
benchmarks/results/signals.json. Commands and their moments are those of tests/e2e/test_signals.py,
which checks everything but the wall time, since a busy machine stretches it. The target is 2 s on a
machine with free cores; the load while measuring is recorded.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "e2e"))
from ended_command import STATUS, STOP_S, end
from test_signals import COMMANDS, SIGNALS, words_of, write_inputs

RESULTS = Path(__file__).parent / "results" / "signals.json"


def measure(name: str, inputs: Path, folder: Path) -> dict[str, Any]:
    """End a command by each signal in the middle of its work."""
    found: dict[str, Any] = {}
    for number in SIGNALS:
        out = folder / f"{name}-{number.name}".replace(" ", "_")
        out.mkdir()
        ended = end(words_of(name, inputs, out / "out"), out / "log", COMMANDS[name][1], number)
        found[number.name] = {
            "seconds": round(ended.seconds, 2),
            "processor_s": round(ended.processor_s, 2),
            "exit_status_is_right": ended.status == STATUS[number],
            "processes_left": len(ended.left),
            "ended_inside_a_library_call": "within a long computation" in ended.text,
            "load": round(os.getloadavg()[0], 1),
        }
        print(f"{name:14s} {number.name:8s} {found[number.name]}", flush=True)
    return found


def main() -> None:
    """Measure the named commands, or all, and write the results."""
    stored = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    commands = stored.get("commands", {})
    with tempfile.TemporaryDirectory() as name:
        inputs = write_inputs(Path(name) / "inputs")
        for command in sys.argv[1:] or COMMANDS:
            commands[command] = measure(command, inputs, Path(name))
    runs = [run for signals in commands.values() for run in signals.values()]
    result = {
        "target_s": STOP_S,
        "commands": commands,
        "ended": len(runs),
        "slowest_s": max(run["seconds"] for run in runs),
        "within_target": sum(run["seconds"] <= STOP_S for run in runs),
        "machine": {"cpu": platform.machine(), "cores": os.cpu_count()},
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
