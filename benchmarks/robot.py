"""Driver, watchdog and safety layer over libfranka's own protocol, on the simulated arm.

For each fault: the time from the fault until the arm stands, how far it still went, and what the
person reads. Then thousands of random, extreme and not-a-number commands, driven through the safety
layer: about an hour on two idle cores; a run that is killed goes on where it was.

    python benchmarks/robot.py [--only faults|commands|page] [--commands 10000] [--shard 0 --of 1]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:] = [p for p in sys.path if not p or Path(p).resolve() != HERE]
sys.path.insert(0, str(HERE.parent))

from benchmarks.robot_commands import drive_commands, read_chunks, total  # noqa: E402
from benchmarks.robot_faults import arm_faults  # noqa: E402

OUT = HERE / "results" / "robot.json"
PAGE = HERE.parent / "docs" / "robot-faults.md"
WORK = HERE.parent / "runs" / "robot-commands"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only",
        choices=("faults", "commands", "page"),
        help="one part; page: of the finished commands",
    )
    parser.add_argument("--commands", type=int, default=10_000)
    parser.add_argument("--shard", type=int, default=0, help="drive every OF-th hundred from here")
    parser.add_argument("--of", type=int, default=1, help="processes that share the commands")
    options = parser.parse_args()
    found: dict[str, Any] = json.loads(OUT.read_text("utf-8")) if OUT.is_file() else {}
    if options.only in (None, "faults"):
        found["faults"] = arm_faults()
        for name, row in found["faults"].items():
            print(f"{name:28s} {json.dumps(row)}", flush=True)
    if options.only in (None, "commands", "page"):
        if options.only != "page":
            drive_commands(options.commands, WORK, options.shard, options.of)
        found["commands"] = total(read_chunks(WORK / "chunks.jsonl", options.commands))
        print(json.dumps(found["commands"]))
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    write_page(found["faults"], found["commands"])
    print(OUT, PAGE, sep="\n")


def fault_lines(faults: dict[str, dict[str, Any]]) -> list[str]:
    """Table of the faults."""
    lines = [
        "| fault | arm stands after | still went | told after | what the person reads |",
        "|---|---|---|---|---|",
    ]
    for name, row in faults.items():
        stop = f"{row['stop_s']:.2f} s" if "stop_s" in row else "does not move"
        left = f"{1000 * row['left_m']:.0f} mm" if "left_m" in row else ""
        told = f"{row['told_s']:.2f} s" if "told_s" in row else ""
        text = " ".join(row["message"].split())
        then = f" The next look: {row['then']}" if "then" in row else ""
        lines.append(f"| {name} | {stop} | {left} | {told} | {text}{then} |")
    return lines


def command_lines(found: dict[str, Any]) -> list[str]:
    """Table of the commands."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in found["kinds"].items())
    stops = ", ".join(f"{n} times {why}" for why, n in found["stops"].items()) or "none"
    reasons = ", ".join(f"{kind} {count}" for kind, count in found["counts"].items())
    margin = 1000 * found["margin_m"]
    return [
        "## Commands through the safety layer\n",
        f"{found['commands']} commands ({kinds}) at up to 0.3 m/s, three times the default. "
        f"{found['driven']} moved the arm, {found['refused']} were refused.\nFlange and fingertips "
        f"were worked out from the measured joints {found['looks']} times while the arm was "
        f"driven. Targets keep {margin:.0f} mm\nfrom the faces of the boxes (`margin_m`).\n",
        "| | |",
        "|---|---|",
        f"| targets outside their boxes | at most {1000 * found['target_outside_m']:.2f} mm |",
        f"| the arm outside the boxes | at most {1000 * found['arm_outside_m']:.2f} mm |",
        f"| the arm past the box of its targets, of the margin's {margin:.0f} mm | at most "
        f"{1000 * found['margin_used_m']:.2f} mm |",
        f"| hundreds of commands in which it was outside at all | {found['hundreds_outside']} of "
        f"{found['hundreds']} |",
        f"| largest step sent, on an axis | {found['step_m']:.3f} m, {found['turn_rad']:.3f} rad |",
        f"| largest measured way in a command | {found['moved_m']:.3f} m |",
        f"| commands with a line in the log | {found['logged']} of {found['commands']} |",
        f"| motions stopped early and recovered | {stops} |",
        f"| a driven motion, median, on a busy machine | {found['motion_s_median']:.2f} s |\n",
        f"Commands by reason (one may have several): {reasons}.\n",
    ]


def write_page(faults: dict[str, dict[str, Any]], found: dict[str, Any]) -> None:
    """Write docs/robot-faults.md."""
    camera = (
        "The camera is a network\ncamera (MJPEG over HTTP, 20 pictures a second) with a process of "
        "its own, read through OpenCV."
        if "camera unplugged" in faults
        else "The camera's\nfault is that the watchdog hears of no more frames."
    )
    lines = [
        "# Faults, on the simulated arm over libfranka's protocol\n",
        "Written by `python benchmarks/robot.py`; nothing is typed in by hand. **No real arm "
        "was at hand.** The arm moves at 0.1 m/s when the fault comes;\ntimes count from the fault "
        f"until the fingertips stay within 1 mm, in wall time on two processor cores. {camera}\n",
        *fault_lines(faults),
        "\nWhere the server is killed or frozen, the simulated arm stands because its physics "
        "stop; a real arm brakes by itself when its\ncontrol box loses the connection.\n",
        *command_lines(found),
    ]
    PAGE.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
