"""Test driver, watchdog and safety layer over libfranka's protocol on the simulated arm.

For each fault, several times: the time until the arm is at rest, how far it moved, and the message.
Then thousands of random, extreme and NaN commands pass through the safety layer, which takes about
two hours of one core; `--processes 8` shares them among 8 simulated arms. More of them pass through
the layer alone, on an arm without physics. A killed run resumes from the lines in the folder
`--work`; remove that folder to measure again. `commands_before` in the results is 10,000 commands
that an earlier version drove, before rotations were limited by their angle.

    python benchmarks/robot_safety.py [--only faults|commands|layer|page] [--commands 10000]
        [--processes 8] [--work runs/robot-safety]

`--only page` writes docs/robot-faults.md from benchmarks/results/robot.json and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from page_blocks import fill_blocks, markdown_table, wrap
from robot_commands import share_commands, total
from robot_faults import measure_faults
from robot_layer import check_layer

HERE = Path(__file__).resolve().parent
OUT = HERE / "results" / "robot.json"
PAGE = HERE.parent / "docs" / "robot-faults.md"
WORK = HERE.parent / "runs" / "robot-safety"


def main() -> int:
    """Measure, print and write the results; return 1 if some commands are left for another run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only",
        choices=("faults", "commands", "layer", "page"),
        help="one part; page: only write the page",
    )
    parser.add_argument("--commands", type=int, default=10_000)
    parser.add_argument("--layer", type=int, default=120_000, help="commands without an arm")
    parser.add_argument("--processes", type=int, default=1, help="that share the commands")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of what is finished")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each fault")
    options = parser.parse_args()
    found: dict[str, Any] = json.loads(OUT.read_text("utf-8")) if OUT.is_file() else {}
    if options.only in (None, "faults"):
        found["faults"] = measure_faults(options.work / "faults.jsonl", options.repeats)
        write(found)
    if options.only in (None, "layer"):
        found["layer"] = check_layer(options.layer, options.work / "layer.jsonl")
        print(json.dumps(found["layer"]))
        write(found)
    if options.only in (None, "commands"):
        chunks = share_commands(options.commands, options.work, options.processes)
        if sum(chunk["commands"] for chunk in chunks) < options.commands:
            print("Not all commands were driven: the same command drives the others")
            return 1
        found["commands"] = total(chunks)
        print(json.dumps(found["commands"]))
        write(found)
    write_page(found)
    print(OUT, PAGE, sep="\n")
    return 0


def write(found: dict[str, Any]) -> None:
    """Write the results measured so far."""
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def fault_table(faults: dict[str, list[dict[str, Any]]]) -> str:
    """Format the table of the faults."""
    rows = []
    for name, runs in faults.items():
        first = runs[0]
        stop = _range([run["stop_s"] for run in runs], " s") if "stop_s" in first else ""
        left = _range([1000 * run["left_m"] for run in runs], " mm", 0) if stop else ""
        told = _range([run["told_s"] for run in runs], " s") if "told_s" in first else ""
        then = f" Then: {first['then']}" if "then" in first else ""
        message = " ".join(first["message"].split()) + then
        rows.append((name, stop or "does not move", left, told, message))
    head = ("fault", "arm at rest after", "moved on", "reported after", "message")
    return markdown_table(head, rows)


def _range(values: Sequence[float], unit: str, digits: int = 2) -> str:
    """Return the median, and the range where it differs from it in what is shown."""
    low, middle, high = (
        f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values))
    )
    return f"{middle}{unit}" if low == high else f"{middle}{unit} ({low} to {high})"


def command_text(found: dict[str, Any]) -> str:
    """Describe the results of the random commands."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in found["kinds"].items())
    stops = ", ".join(f"{n} times {why}" for why, n in found["stops"].items()) or "none"
    reasons = ", ".join(f"{kind} {count}" for kind, count in found["counts"].items())
    margin = f"{1000 * found['margin_m']:.0f} mm"
    before = (
        f"{found['commands']} commands ({kinds}) at up to 0.3 m/s, three times the default: "
        f"{found['driven']} moved the arm, {found['refused']} were refused. The poses of flange "
        f"and fingertips were computed from the measured joints {found['looks']} times while the "
        f"arm moved. Targets keep {margin} from the faces of the boxes (`margin_m`)."
    )
    rows = [
        ("targets outside their boxes", f"at most {1000 * found['target_outside_m']:.2f} mm"),
        ("arm outside the boxes", f"at most {1000 * found['arm_outside_m']:.2f} mm"),
        (
            f"arm beyond the box of its targets, of the margin's {margin}",
            f"at most {1000 * found['margin_used_m']:.2f} mm",
        ),
        (
            "hundreds of commands during which it was outside at all",
            f"{found['hundreds_outside']} of {found['hundreds']}",
        ),
        ("largest step sent, per axis", f"{found['step_m']:.3f} m"),
        ("largest distance moved in a command", f"{found['moved_m']:.3f} m"),
        *_turns(found),
        ("commands with a line in the log", f"{found['logged']} of {found['commands']}"),
        ("motions stopped early and recovered", stops),
        ("median duration of a motion, on a busy machine", f"{found['motion_s_median']:.2f} s"),
    ]
    after = f"Commands by reason (a command may have several): {reasons}."
    return "\n\n".join([wrap(before), markdown_table(("measure", "value"), rows), wrap(after)])


def _turns(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows of rotations; results from before they were limited by angle have none."""
    if "turned_rad" not in found:
        return []
    return [
        ("largest rotation sent (angle)", f"{found['turn_rad']:.3f} rad"),
        ("largest rotation measured in a command", f"{found['turned_rad']:.3f} rad"),
    ]


def layer_text(found: dict[str, Any]) -> str:
    """Describe the results of the layer alone."""
    before = (
        f"{found['commands']} commands of the same kinds through the layer alone, on an arm "
        f"without physics: {found['sent']} were sent, {found['refused']} refused. Steps and "
        "rotations of the targets were computed again with SciPy."
    )
    rows = [
        ("targets outside their boxes", f"at most {1000 * found['target_outside_m']:.2f} mm"),
        ("largest step, per axis", f"{found['step_m']:.6f} m of {found['max_step_m']:.3f}"),
        ("largest rotation (angle)", f"{found['turn_rad']:.6f} rad of {found['max_turn_rad']:.3f}"),
        ("targets that are not finite", str(found["not_finite"])),
        ("median processor time of a command", f"{1000 * found['seconds_median']:.1f} ms"),
    ]
    return "\n\n".join([wrap(before), markdown_table(("measure", "value"), rows)])


def write_page(found: dict[str, Any]) -> None:
    """Fill the blocks of docs/robot-faults.md for the parts that were measured."""
    texts = {
        "faults": fault_table,
        "commands": command_text,
        "commands_before": command_text,
        "layer": layer_text,
    }
    fill_blocks(PAGE, {part: texts[part](found[part]) for part in texts if part in found})


if __name__ == "__main__":
    raise SystemExit(main())
