"""Compare the processor time of a drive's control cycle with that of an earlier checkout.

`python benchmarks/drive_cycle.py before=DIR` (about ten minutes on one core) drives the simulated
arm in turn with both checkouts, in processes of their own, and updates
benchmarks/results/drive_cycle.json. A cycle lasts from one reading of the camera to the next; what
is compared is the time outside the agent, which encodes and plans, as well as the whole.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from option_words import read_words

RESULTS = Path(__file__).parent / "results" / "drive_cycle.json"
ROUNDS = 12
PARTS = ("cycle", "cycle without encoding and plan")
TIMED = """
import json, statistics, sys, time
from planning.agent import PlanningAgent
from planning.cli.app import main
from robot.cameras.camera import CheckedCamera
read, act = CheckedCamera.read, PlanningAgent.act
begun, spent = [], []
def timed_read(self):
    begun.append(time.process_time())
    return read(self)
def timed_act(self, observation):
    start = time.process_time()
    decision = act(self, observation)
    spent.append(time.process_time() - start)
    return decision
CheckedCamera.read, PlanningAgent.act = timed_read, timed_act
words = ["drive", "robot=fake", "task=reach", "execute=true", "confirm=false", "device=cpu"]
words += ["samples=16", "iterations=1", "elites=4", "stretch=1", "episodes=2", f"out={sys.argv[1]}"]
assert main(words) == 0
steps = [(b - a, planned) for a, b, planned in zip(begun, begun[1:], spent)]
sound = [row for row in steps[3:] if row[0] < 10 * statistics.median(s[0] for s in steps)]
result = statistics.median(s[0] for s in sound), statistics.median(s[0] - s[1] for s in sound)
print(json.dumps(result))
"""
"""Prints the median processor time of a cycle [s], whole and without the agent. The first cycles,
and the pause between episodes, are left out."""


def drive(tree: Path) -> list[float]:
    """Drive with a checkout; return the median times of its cycles [s]."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as out:
        words = [sys.executable, "-c", TIMED, out]
        done = subprocess.run(
            words, cwd=tree, env=environment, capture_output=True, text=True, check=True
        )
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Drive in turn, and write the medians and their ratio."""
    given = read_words(sys.argv[1:], {}, required=["before"])
    trees = {"before": Path(given["before"]).resolve(), "now": Path(__file__).resolve().parents[1]}
    took: dict[str, list[list[float]]] = {name: [] for name in trees}
    for turn in range(ROUNDS):
        for name in list(trees)[:: 1 if turn % 2 else -1]:
            took[name].append(drive(trees[name]))
        print(turn, {name: rows[-1] for name, rows in took.items()}, flush=True)
    result: dict[str, object] = {"rounds": ROUNDS}
    for place, part in enumerate(PARTS):
        old, new = (statistics.median(row[place] for row in rows) for rows in took.values())
        ratios = [b[place] / a[place] for a, b in zip(took["before"], took["now"], strict=True)]
        result[part] = {
            "before_cpu_ms": round(1000 * old, 3),
            "now_cpu_ms": round(1000 * new, 3),
            "ratio": round(new / old, 3),
            "paired_ratio": round(statistics.median(ratios), 3),
        }
    result["machine"] = {"cpu": platform.machine(), "python": platform.python_version()}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
