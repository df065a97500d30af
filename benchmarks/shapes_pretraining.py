"""Judge encoders that were pretrained on made clips of moving shapes.

    python benchmarks/shapes_pretraining.py                    # three hours of one core; resumable
    python benchmarks/shapes_pretraining.py seeds=0,1,2        # three seeds of every objective
    python benchmarks/shapes_pretraining.py objectives=latent  # V-JEPA alone
    python benchmarks/shapes_pretraining.py objectives= variants=latent_dense  # one variant alone
    python benchmarks/shapes_pretraining.py extra="steps=5000 batch_size=16"  # shorter runs
    python benchmarks/shapes_pretraining.py device=cuda jobs=9 workers=5 seeds=0,1,2 variants=all \
        store=/tmp/shape_clips extra="cuda_graph=true bf16=false save_every=3500" minutes=8
    python benchmarks/shapes_pretraining.py only=results out=FOLDER   # take over finished runs
    python benchmarks/shapes_pretraining.py only=page          # no training: the page alone

`worldmodel pretrain recipe=shapes` trains each encoder. Attentive probes of 1,200 steps
then read shape, direction, speed and position from the frozen features of clips
with textures and paths that no training has seen. An untrained encoder and raw pixels are judged in
the same way: the features are scaled in two ways, and held-out clips choose the better one. Results
go to results/shapes_pretraining.json as they come, and to docs/pretraining.md.

Every run is a process of its own, `jobs` of them at a time; one that fails does not end the others.
After `minutes` (0: no limit) what still runs is stopped; the same command resumes it. With `store`,
`workers` processes make the training clips once, in that folder (5.8 GB), and all runs read them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from option_words import read_names, read_words
from shapes_page import PAGE, VARIANTS, write_page

from worldmodel.data.shape_options import ShapeClipOptions
from worldmodel.data.stored_shapes import StoredShapes
from worldmodel.errors import WorldModelError
from worldmodel.evaluation.shape_probe import ProbeFit
from worldmodel.training.pretrain_options import ShapesConfig

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "shapes_pretraining.json"
DEFAULTS = {
    "out": "runs/shapes_compared",
    "result": str(RESULT),
    "store": "",
    "device": "cpu",
    "jobs": "1",
    "workers": "1",
    "minutes": "0",
    "seeds": "0",
    "objectives": "latent,pixels,labels",
    "variants": "",
    "train": "3072",
    "snapshots": "0.1667,0.25,0.5",
    "extra": "",
    "only": "",
}
WAIT_S = 0.2
LEAVE_S = 20.0
"""Time that a stopped run has to save its work [s]."""


@dataclass(frozen=True)
class Job:
    """A run to judge: its name, and the words of its pretraining."""

    name: str
    words: tuple[str, ...]


def jobs_of(options: dict[str, str]) -> list[Job]:
    """Return the runs that the options ask for, the most useful first."""
    seeds = options["seeds"].split(",")
    extra = options["extra"].split()
    if options["store"]:
        extra.append(f"store={options['store']}")
    found = [
        Job(f"{objective}-{seed}", (f"objective={objective}", f"seed={seed}", *extra))
        for seed in seeds
        for objective in filter(None, options["objectives"].split(","))
    ]
    found += [Job(f"{name}-0", ("steps=0", "seed=0")) for name in ("untrained", "raw")]
    for name in read_names(options, "variants", VARIANTS):
        found.append(Job(f"{name}-{seeds[0]}", (f"seed={seeds[0]}", *extra, *VARIANTS[name].words)))
    return found


def start(job: Job, options: dict[str, str], out: Path) -> subprocess.Popen[bytes]:
    """Start a run; its output goes to a file."""
    compared = job.name.rpartition("-")[0] in ("latent", "pixels")
    snapshots = options["snapshots"] if compared else ""
    rest = (str(out), options["device"], options["train"], snapshots)
    command = [sys.executable, str(HERE / "shapes_arm.py"), job.name, *rest, *job.words]
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with (out / f"{job.name}.log").open("ab") as log:
        return subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)


class Results:
    """The figures of all runs, written as they come."""

    def __init__(self, options: dict[str, str], out: Path) -> None:
        self.path, self.out = Path(options["result"]), out
        keys = ("train", "extra")
        self.content: dict[str, Any] = {key: options[key] for key in keys}
        self.content |= {"test_clips": 1024, "fit": asdict(ProbeFit()), "arms": {}}
        if self.path.is_file():
            kept = json.loads(self.path.read_text("utf-8"))
            if all(kept.get(key) == options[key] for key in keys):
                self.content = kept

    def read(self, job: Job) -> None:
        """Take over what a run has found so far; a run without a file keeps its earlier row."""
        file = self.out / job.name / "judged.json"
        if not file.is_file():
            return
        objective, _, seed = job.name.rpartition("-")
        row = {"objective": objective, "seed": int(seed), **json.loads(file.read_text("utf-8"))}
        row |= row["course"][-1]
        if row != self.content["arms"].get(job.name):
            self.content["arms"][job.name] = row
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
            hidden = ("curve", "course", "words", "both_scalings")
            shown = {k: v for k, v in row.items() if k not in hidden}
            print(job.name, f"at step {row['step']:,} of {row['steps']:,}:", shown, flush=True)


def report(job: Job, status: int, out: Path) -> None:
    """Print the warnings of a run that has ended, and how it failed."""
    log = (out / f"{job.name}.log").read_text("utf-8", errors="replace")
    warned = sorted({line for line in log.splitlines() if line.startswith("WARNING")})
    for line in warned[:3]:
        print(f"{job.name}: {line}", flush=True)
    if status:
        print(f"{job.name} failed with {status}: {log[-400:]}", flush=True)


def run_all(jobs: list[Job], options: dict[str, str], out: Path) -> Results:
    """Run the jobs, several at a time, until they are done or the time is over."""
    until = time.monotonic() + 60 * (float(options["minutes"]) or 1e9)
    results, waiting = Results(options, out), list(jobs)
    running: dict[Job, subprocess.Popen[bytes]] = {}
    while (waiting or running) and time.monotonic() < until:
        while waiting and len(running) < int(options["jobs"]):
            job = waiting.pop(0)
            running[job] = start(job, options, out)
        time.sleep(WAIT_S)
        for job, process in list(running.items()):
            results.read(job)
            if process.poll() is not None:
                del running[job]
                results.read(job)
                report(job, process.returncode, out)
    for process in running.values():
        process.terminate()
    for job, process in running.items():
        try:
            process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            process.kill()
        results.read(job)
    left = [job.name for job in [*running, *waiting]]
    if left:
        print(f"not finished, the same command resumes: {' '.join(left)}", flush=True)
    return results


def read_options(words: list[str]) -> dict[str, str]:
    """Return the options with the given words."""
    options = read_words(words, DEFAULTS)
    read_names(options, "variants", VARIANTS)  # refuses unknown ones before anything runs
    return options


def _write_own_page(results: Results, options: dict[str, str]) -> None:
    """Fill the page, unless the results went to another file than the page's."""
    if Path(options["result"]) == RESULT:
        write_page(results.content)
        print(PAGE)


def main() -> None:
    """Run what is missing, then write the results and the page."""
    options = read_options(sys.argv[1:])
    if options["only"] == "page":
        write_page(json.loads(RESULT.read_text("utf-8")))
        return
    out = Path(options["out"]).resolve()
    if options["only"] == "results":
        results = Results(options, out)
        for job in jobs_of(options):
            results.read(job)
        _write_own_page(results, options)
        return
    out.mkdir(parents=True, exist_ok=True)
    if options["store"]:
        began, sizes = time.perf_counter(), ShapesConfig()
        clips = ShapeClipOptions(num_clips=sizes.num_clips, seed=sizes.data_seed)
        options["store"] = str(Path(options["store"]).resolve())
        try:
            StoredShapes(clips, Path(options["store"]), int(options["workers"]))
            print(f"made the clips in {time.perf_counter() - began:.0f} s", flush=True)
        except (OSError, WorldModelError) as error:
            print(f"the clips could not be kept, so that every step makes its own: {error}")
            options["store"] = ""
    _write_own_page(run_all(jobs_of(options), options, out), options)


if __name__ == "__main__":
    main()
