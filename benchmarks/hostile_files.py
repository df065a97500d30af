"""Count how many damaged or hostile files are held, for each format that is read.

`python benchmarks/hostile_files.py` (about ten minutes); it prints a table and writes
benchmarks/results/hostile_files.json. Every input is a good file with one mutation, from a fixed
seed: flipped bits, truncation, foreign content, or entries of a wrong type, size or name. Each is
read in a process of its own. An input is held if it is refused by an error or a reject that names
it, or if it is read in full with finite numbers. It is not held if a bare exception, a crash, a
signal, more than 60 s of processor time or 2 GiB of further memory come of it; for TFRecord, whose
records have checksums, also if a changed bit changes what is read.
"""

from __future__ import annotations

import argparse
import os
import pickle
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from hostile_formats import Format, annotations, recordings, settings_files
from hostile_mutations import bytes_of
from hostile_own import prepared, results, weights

sys.path.insert(0, str(Path(__file__).parents[1]))
from planning.cli.commands import is_refusal
from worldmodel.atomic_io import write_json

SECONDS, BYTES = 60, 2 << 30
RESULTS = Path(__file__).parent / "results" / "hostile_files.json"
GROUPS = (recordings, settings_files, annotations, weights, prepared, results)


def judged(read: Callable[[Path], object], folder: Path) -> tuple[str, object]:
    """Read in a child process; return `refused`, `read` or the fault, and what was read."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.close(ours)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
        try:
            answer: tuple[str, object] = ("read", read(folder))
        except Exception as error:  # noqa: BLE001 - every kind of failure is counted
            kind = "refused" if is_refusal(error) else "bare"
            answer = (kind, f"{type(error).__name__}: {error}"[:300])
        with os.fdopen(theirs, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    if status or not data:
        return "crash", f"exit status {os.waitstatus_to_exitcode(status)}"
    found: tuple[str, object] = pickle.loads(data)
    return found


def records_unchanged(found: object, good: object) -> bool:
    """Return whether every record that was accepted is one of the good file's."""
    assert isinstance(found, list)
    assert isinstance(good, list)
    contents = {record[1:] for record in good}
    return all(len(record) == 2 or record[1:] in contents for record in found)


def attack(kind: Format, work: Path) -> Iterator[tuple[str, str, object]]:
    """Yield name, verdict and detail of each mutation of a format."""
    verdict, good = judged(kind.read, kind.folder)
    assert verdict == "read", (kind.name, good)
    path = kind.folder / kind.file
    before = path.read_bytes()
    for name, spoil in (*bytes_of(path), *kind.own(path)):
        path.write_bytes(before)
        spoil()
        folder = work / "input"
        shutil.copytree(kind.folder, folder)
        verdict, detail = judged(kind.read, folder)
        if verdict == "read" and kind.has_checksums and not records_unchanged(detail, good):
            verdict = "silent"
        if verdict == "read":
            rejects = [r for r in detail if len(r) == 2] if isinstance(detail, list) else []
            verdict, detail = ("refused", rejects) if rejects else ("read", "")
        shutil.rmtree(folder)
        yield name, verdict, detail
    path.write_bytes(before)


def main() -> int:
    """Attack every format, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only formats whose names contain this text")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    rows, faults = [], []
    with tempfile.TemporaryDirectory() as temporary:
        root, work = Path(temporary) / "good", Path(temporary) / "work"
        for folder in (root, work):
            folder.mkdir()
        for kind in (kind for group in GROUPS for kind in group(root) if only in kind.name):
            counts: Counter[str] = Counter()
            for name, verdict, detail in attack(kind, work):
                counts[verdict] += 1
                if verdict not in ("refused", "read"):
                    faults.append([kind.name, name, verdict, str(detail)])
                    print("NOT HELD", *faults[-1], flush=True)
            rows.append({"format": kind.name, "inputs": counts.total(), **counts})
            print(f"{kind.name:30s} {counts.total():4d} inputs: {dict(counts)}", flush=True)
    total = sum(row["inputs"] for row in rows)
    print(f"{total} inputs, {total - len(faults)} held")
    if not only:
        summary = {"inputs": total, "held": total - len(faults), "formats": rows}
        write_json(RESULTS, summary | {"not_held": faults})
        print(RESULTS)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
