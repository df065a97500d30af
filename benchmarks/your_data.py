"""Run the commands of docs/your-data.md on two data sets, and write how long each takes there.

    python benchmarks/your_data.py lerobot=FOLDER rlds=FOLDER [out=FOLDER]
    python benchmarks/your_data.py page    # only the page

`lerobot=` is a set that lerobot wrote, `rlds=` one of the same play that tensorflow-datasets wrote.
The page's own text is run, from an empty folder, where both are called as on the page.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from option_words import read_words
from page_blocks import fill_blocks, markdown_table, wrap

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "your_data.json"
PAGE = ROOT / "docs" / "your-data.md"
SETS = {"lerobot": "root=my_lerobot", "rlds": "root=my_rlds"}
RATE = "rlds_fps=4"
"""Control rate of the RLDS set."""


def commands(kind: str) -> list[list[str]]:
    """Return the words of the page's commands for a kind of data set, without `worldmodel`."""
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = [shlex.split(line)[1:] for line in lines if SETS["rlds"] not in line]
    if kind == "lerobot":
        return found
    return [
        [*(word.replace(SETS["lerobot"], SETS["rlds"]) for word in words), RATE]
        if SETS["lerobot"] in words
        else words
        for words in found
    ]


def name_of(words: list[str]) -> str:
    """Return a command as the table shows it: its name, and what tells it from others."""
    shown = [w for w in words if "=" not in w or w.startswith(("mode=", "robot="))]
    return " ".join(shown)


def run(words: list[str], folder: Path) -> dict[str, Any]:
    """Run a command in a folder; return its time on the clock and that of the processor [s]."""
    began, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, "-m", "worldmodel", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    after = os.times()
    if done.returncode:
        raise SystemExit(f"{shlex.join(words)}: {done.stderr[-2000:]}")
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return {
        "command": name_of(words),
        "seconds": time.perf_counter() - began,
        "cpu_s": cpu,
        "last_lines": done.stdout.strip().splitlines()[-12:],
    }


def results(folder: Path) -> dict[str, Any]:
    """Return what the commands found: episodes, verdict, success and error."""
    read = {
        name: json.loads((folder / "runs" / name / "summary.json").read_text("utf-8"))
        for name in ("index", "mine", "eval", "drive")
    }
    converted = json.loads((folder / "runs/drive_lerobot/meta/info.json").read_text("utf-8"))
    return {
        "accepted": read["index"]["accepted"],
        "rejected": read["index"]["rejected"],
        "verdict": [
            {"good": finding["good"], "text": finding["text"]}
            for finding in read["mine"]["verdict"]["findings"]
        ],
        "eval": {
            "successes": read["eval"]["successes"],
            "episodes": read["eval"]["episodes"],
            "error_m": read["eval"]["final_error_m"]["median"],
            "baselines_m": {
                name: row["final_error_m"]["median"]
                for name, row in read["eval"]["baselines"].items()
            },
        },
        "drive": {"episodes": read["drive"]["episodes"], "error_m": read["drive"]["final_error_m"]},
        "converted_episodes": converted["total_episodes"],
    }


def measure(kind: str, data: Path, folder: Path) -> dict[str, Any]:
    """Run all commands of the page on a data set, from an empty folder."""
    folder.mkdir(parents=True)
    (folder / SETS[kind].partition("=")[2]).symlink_to(data.resolve())
    rows = []
    for words in commands(kind):
        rows.append(run(words, folder))
        print(kind, rows[-1]["command"], f"{rows[-1]['seconds']:.0f} s", flush=True)
    return {"commands": rows, "found": results(folder)}


def shown_time(row: dict[str, Any]) -> str:
    """Return a command's processor time as the table shows it."""
    seconds = row["cpu_s"]
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def shown_result(name: str, found: dict[str, Any]) -> str:
    """Return what a command found, as the table shows it."""
    played = found["eval"]
    known = {
        "data index": f"{found['accepted']} of {found['accepted'] + found['rejected']} episodes",
        "eval": f"{played['successes']} of {played['episodes']}, median error "
        f"{100 * played['error_m']:.1f} cm",
        "drive robot=fake": f"error {100 * found['drive']['error_m']['median']:.1f} cm",
        "data convert": f"{found['converted_episodes']} episode",
    }
    return known.get(name, "")


def write_page(found: dict[str, Any]) -> None:
    """Fill the table of docs/your-data.md, and the verdicts below it."""
    rows = []
    for pair in zip(*(found[kind]["commands"] for kind in SETS), strict=True):
        cells = [f"`{pair[0]['command']}`", *map(shown_time, pair)]
        for kind, row in zip(SETS, pair, strict=True):
            cells.append(shown_result(row["command"], found[kind]["found"]))
        rows.append(cells)
    sums = [sum(row["cpu_s"] for row in found[kind]["commands"]) for kind in SETS]
    rows.append(["all", *(shown_time({"cpu_s": value}) for value in sums), "", ""])
    head = ["command", "LeRobot", "RLDS", "LeRobot: result", "RLDS: result"]
    verdicts = [
        wrap(f"Verdict of the {title} set: " + " ".join(f["text"] for f in told["verdict"]))
        for title, told in (
            ("LeRobot", found["lerobot"]["found"]),
            ("RLDS", found["rlds"]["found"]),
        )
    ]
    parts = [markdown_table(head, rows), *verdicts]
    fill_blocks(PAGE, {"time": "\n\n".join(parts)})


def main(words: list[str]) -> None:
    """Measure both sets, write the results and fill the page."""
    if words == ["page"]:
        write_page(json.loads(RESULT.read_text("utf-8")))
        return
    given = read_words(words, {"out": ""}, required=SETS)
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(given["out"] or temporary)
        found: dict[str, Any] = {
            kind: measure(kind, Path(given[kind]), out / kind) for kind in SETS
        }
    found["threads"] = int(os.environ.get("OMP_NUM_THREADS", 0))
    found["load"] = os.getloadavg()[0]
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    write_page(found)


if __name__ == "__main__":
    main(sys.argv[1:])
