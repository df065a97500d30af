"""Collect data for both one-goal models, train and judge them, in half an hour on one GPU.

    bash benchmarks/gpu_one_goal.sh [OUT]

OUT gets the weights and results.tar.gz (summaries, curves, decoders, rows of the evaluation), which
are written again after each part; the data stay in WORK. Finished parts are not run again. Each
part has a time limit, and a failed one does not stop the others. Numbers of steps are chosen from
the pace of a short run beside the other training. Environment variables:

DEVICE=cuda       device of the trainings; cpu tries the script itself
WORK=OUT/work     folder of data, checkpoints and logs
CACHE=...         folder of decoded frames, about 30 GB (default: in shared memory if there is room)
TOTAL_S=1440      time after which nothing begins
COLLECT_S=250     time for the data of phase 1, on COLLECT_CORES=13 cores
LATER_S=250       time for more data of phase 2, recorded on SPARE_CORES=5 cores during phase 1
PHASE1_S=270      time for each training of phase 1, and
PHASE2_S=210      of phase 2
EVAL_CORES=16     cores of the evaluation, four to a row
EVAL_EPISODES=40  episodes of a row
SCALE=1           factor on the numbers of recorded episodes
STEPS=0           steps of each phase (0: as many as fit)

Exit status: 0 if everything ended well, else 1.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tarfile
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from one_goal_data import BATCH, FIRST, LATER, RATE, RECIPES, SHARES, VAL, DataSet
from page_blocks import markdown_table
from timed_parts import Parts

ROOT = Path(__file__).resolve().parents[1]
SHARED_BYTES = 48e9
"""Free shared memory with which decoded frames are kept there, whatever the disk's speed."""
PACE_STEPS = 150
"""Steps of the run that measures the pace."""
START_S = 30.0
"""Time of a training that is not a step: opening data, copying it, the last validation [s]."""
EXPORT_S = 60.0
"""Time to export what a stopped training has reached [s]."""
ROWS = (
    ("one_goal_labelled", "one image: pick_place"),
    ("one_goal_labelled", "one image: push"),
    ("one_goal_labelled", "one image: over_wall"),
    ("one_goal_labelled", "one image: push_pose"),
    ("one_goal_labelled", "one image: two_objects"),
    ("one_goal", "one image: no simulator label: pick_place"),
    ("one_goal", "one image: no simulator label: push"),
    ("one_goal_labelled", "one image: pick_place, held-out appearance"),
    ("one_goal_labelled", "one image: pick_place, held-out appearance and shape"),
    ("one_goal_labelled", "one image: pick_place, cup"),
    ("one_goal_labelled", "one image: pick_place, box"),
    ("one_goal_labelled", "one image: sort"),
    ("one_goal_labelled", "one image: push, held-out appearance"),
    ("one_goal_labelled", "one image: push_pose, T"),
    ("one_goal", "one image: no simulator label: two_objects"),
    ("one_goal", "one image: no simulator label: over_wall"),
    ("one_goal", "one image: no simulator label: push_pose"),
)
"""Rows of benchmarks/evaluate.py by model, the most important first."""
TUNING = ["seed=900", "baselines=false"]
"""Options of the first rows, on episodes that no table uses: a bad model is seen early."""
TUNED = 5
"""Number of rows that are first run on tuning episodes."""


def number(name: str, default: float) -> float:
    """Return a setting from the environment."""
    return float(os.environ.get(name, default))


class Run:
    """The whole run."""

    def __init__(self, out: Path) -> None:
        self.out = out.resolve()
        self.work = Path(os.environ.get("WORK", self.out / "work")).resolve()
        for folder in (self.out, self.work):
            folder.mkdir(parents=True, exist_ok=True)
        self.device = os.environ.get("DEVICE", "cuda")
        self.parts = Parts(self.work, number("TOTAL_S", 1440))
        self.has_data = {data.name: False for data in (*FIRST, *LATER, VAL)}
        self.later: Future[None] | None = None
        self.packing = threading.Lock()
        shared = Path("/dev/shm")
        has_room = shared.is_dir() and shutil.disk_usage(shared).free > SHARED_BYTES
        folder = shared / "one_goal_cache" if has_room else self.work / "cache"
        self.cache = Path(os.environ.get("CACHE", folder))
        self.parts.say(f"decoded frames in {self.cache}")

    def command(self, *words: str) -> list[str]:
        """Return a command of the package, without an installed script."""
        return [sys.executable, "-m", "worldmodel", *words]

    def folder(self, name: str) -> str:
        """Return the index of a data set, which opens without a look at each episode."""
        return str(self.work / "index" / name)

    # data

    def collect(self, data: DataSet, limit_s: float, cores: int) -> None:
        """Record a data set; what a limit leaves of it is used."""
        episodes = max(4, round(data.episodes * number("SCALE", 1)))
        words = [*data.words.split(), f"episodes={episodes}", f"seed={data.seed}"]
        words += [f"workers={cores}", f"out={self.work / 'data' / data.name}"]
        self.parts.run(
            f"collect_{data.name}", self.command("collect", *words), limit_s, partial=True
        )

    def decode(self, data: DataSet, cores: int) -> None:
        """Index a data set, and decode it into the cache of the trainings."""
        folder = self.work / "data" / data.name
        if any(folder.glob("*/*/*/episode-*")):
            words = [sys.executable, __file__, "decode", str(folder), self.folder(data.name)]
            words.append(str(self.cache))
            self.has_data[data.name] = self.parts.run(
                f"decode_{data.name}", [*words, str(cores)], 150
            )

    def collect_all(self, sets: tuple[DataSet, ...], seconds: float, cores: int) -> None:
        """Record data sets one after the other, and decode each beside the next one."""
        cost = sum(data.episodes * data.cost_s for data in sets)
        with ThreadPoolExecutor(1) as decoding:
            for data in sets:
                share_s = seconds * data.episodes * data.cost_s / cost
                self.collect(data, 15 + 1.2 * share_s, cores)
                decoding.submit(self.guarded, self.decode, data, max(2, cores // 2))

    # trainings

    def data_words(self, shares: dict[str, float]) -> list[str]:
        """Return the options of the data sets that there are."""
        found = {name: share for name, share in shares.items() if self.has_data[name]}
        words = [f"data={self.folder('contact')}", f"val={self.folder(VAL.name)}"]
        if found:
            words += ["more_data=" + ",".join(map(self.folder, found))]
            words += ["more_shares=" + ",".join(f"{share:g}" for share in found.values())]
        return words

    def phase_words(self, model: str, phase: int) -> list[str]:
        """Return the options of a phase, without data, steps and output."""
        first = model if phase == 0 else str(self.work / f"{model}_1")
        return [
            f"recipe={RECIPES[model][phase]}",
            f"encoder={first}",
            f"batch_size={BATCH[phase]}",
            f"lr={RATE[phase]:g}",
            f"device={self.device}",
            f"cache={self.cache}",
            *("threads=1", "plan_clips=0", "bf16=false"),
        ]

    def steps(self, model: str, phase: int, limit_s: float) -> int:
        """Return the number of steps that fit, from a short run on the held-out episodes."""
        if number("STEPS", 0):
            return int(number("STEPS", 0))
        name = f"pace_{model}_{phase + 1}"
        val, began = self.folder(VAL.name), self.parts.elapsed_s
        words = [*self.phase_words(model, phase), f"data={val}", f"val={val}"]
        words += [f"steps={PACE_STEPS}", "log_every=25", f"eval_every={PACE_STEPS}"]
        words += [f"save_every={PACE_STEPS}", f"out={self.work / name}", "val_clips=32"]
        self.parts.run(name, self.command("train", *words), 90)
        rows = read_lines(self.work / name / "metrics.jsonl")
        paces = [row["samples_per_s"] / BATCH[phase] for row in rows if row["step"] > 50]
        pace = sorted(paces)[len(paces) // 2] if paces else 5.0
        left_s = limit_s - (self.parts.elapsed_s - began) - START_S
        found = max(100, int(left_s * pace) // 20 * 20)
        self.parts.say(f"{model}, phase {phase + 1}: {pace:.1f} steps/s, {found} steps")
        return found

    def phase(self, model: str, phase: int, limit_s: float) -> bool:
        """Train a phase; export what it reached if it exceeds its limit."""
        name, began = f"{model}_{phase + 1}", self.parts.elapsed_s
        chosen = self.work / f"{name}.steps"
        if not chosen.is_file():
            chosen.write_text(str(self.steps(model, phase, limit_s)), encoding="utf-8")
        steps, folder = int(chosen.read_text(encoding="utf-8")), self.work / name
        words = [*self.phase_words(model, phase), *self.data_words(SHARES[model][phase])]
        words += [f"steps={steps}", f"eval_every={max(1, steps // 4)}", "val_clips=512"]
        words += [f"save_every={max(1, steps // 20)}", f"out={folder}"]
        command = self.command("train", *words)
        left_s = limit_s - (self.parts.elapsed_s - began)
        if self.parts.run(name, command, 1.15 * left_s):
            return True
        saved = sorted(int(p.name.split("-")[1]) for p in folder.glob("checkpoints/step-*"))
        if not saved:
            return False
        return self.parts.run(f"{name}_export", [*command, f"stop_after={saved[-1]}"], EXPORT_S)

    def train(self, model: str) -> None:
        """Train both phases of a model and copy its weights to OUT."""
        if not self.phase(model, 0, number("PHASE1_S", 270)):
            return
        if self.later is not None:
            self.later.result()
        if self.phase(model, 1, number("PHASE2_S", 210)):
            shutil.copy(self.weights(model), self.out / f"{model}.safetensors")
            self.pack()

    def weights(self, model: str) -> Path:
        """Return the file of a trained model."""
        return self.work / f"{model}_2" / "model.safetensors"

    # judging

    def show(self, model: str) -> None:
        """Train a decoder for display, and measure rollouts and surprise."""
        contact, val = f"data={self.folder('contact')}", f"val={self.folder(VAL.name)}"
        place = [f"device={self.device}", f"cache={self.cache}"]
        file = f"model={self.weights(model)}"
        words = ["inspect", "probes", file, contact, val, "precision=float32", *place]
        self.parts.run(
            f"rollouts_{model}", self.command(*words, f"out={self.work / f'rollouts_{model}'}"), 200
        )
        words = ["train", "decoder", file, contact, val, "count=60000", "train_steps=30000"]
        words += ["minutes=2", "precision=float32", *place]
        words += [f"file={self.work / f'{model}-decoder.safetensors'}"]
        self.parts.run(
            f"decoder_{model}", self.command(*words, f"out={self.work / f'decoder_{model}'}"), 240
        )
        words = ["inspect", "surprise", file, f"out={self.work / f'surprise_{model}'}"]
        self.parts.run(f"surprise_{model}", self.command(*words, "device=cpu"), 400)

    def row(self, model: str, name: str, results: str, more: list[str]) -> None:
        """Evaluate a model on a row of the results."""
        if not self.weights(model).is_file():
            return
        part = results + "-" + name.removeprefix("one image: ").replace(" ", "_").replace(",", "")
        words = [sys.executable, str(ROOT / "benchmarks" / "evaluate.py"), f"row={name}"]
        words += [f"results={self.work / results}", f"{model}={self.weights(model)}"]
        workers = max(1, int(number("EVAL_CORES", 16)) // 4)
        words += [f"workers={workers}", "pictures=false", *more]
        if self.parts.run(part.replace(":", ""), words, 600):
            self.pack()

    def evaluate(self) -> None:
        """Run rows four at a time: tuning episodes first, then the rows of the results."""
        episodes = int(number("EVAL_EPISODES", 40))
        fewer = [f"episodes={episodes}"] if episodes < 40 else []
        few = [*TUNING, f"episodes={min(10, episodes)}"]
        with ThreadPoolExecutor(4) as rows:
            for model, name in ROWS[:TUNED]:
                rows.submit(self.guarded, self.row, model, name, "tuning", few)
            for model, name in ROWS:
                rows.submit(self.guarded, self.row, model, name, "eval", fewer)

    # the whole

    def guarded(self, function: Callable[..., object], *values: object) -> None:
        """Call a function; print an error instead of raising it."""
        try:
            function(*values)
        except Exception as error:  # noqa: BLE001 - one part must not stop the others
            traceback.print_exc()
            self.parts.notes.append(f"{error}")

    def pack(self) -> None:
        """Write results.tar.gz anew."""
        part = self.out / "results.part"
        with self.packing, tarfile.open(part, "w:gz") as tar:
            for file in sorted(self.work.rglob("*")):
                if is_result(file.relative_to(self.work)) and file.is_file():
                    tar.add(file, str(file.relative_to(self.work)))
            tar.close()
            part.replace(self.out / "results.tar.gz")

    def all(self) -> None:
        """Run everything, in order."""
        cores, spare = int(number("COLLECT_CORES", 13)), int(number("SPARE_CORES", 5))
        self.guarded(self.collect_all, (VAL, *FIRST), number("COLLECT_S", 250), cores)
        with ThreadPoolExecutor(3) as pool:
            self.later = pool.submit(
                self.guarded, self.collect_all, LATER, number("LATER_S", 250), spare
            )
            for model in RECIPES:
                pool.submit(self.guarded, self.train, model)
        with ThreadPoolExecutor(2) as pool:
            for model in RECIPES:
                if self.weights(model).is_file():
                    pool.submit(self.guarded, self.show, model)
            self.evaluate()
        self.table()
        self.guarded(self.pack)

    def table(self) -> None:
        """Print the rows and what failed."""
        lines = []
        for file in sorted(self.work.glob("*/one_image-*.json")):
            row = json.loads(file.read_text(encoding="utf-8"))
            counts = [f"{name} {found['successes']}" for name, found in row["baselines"].items()]
            name = f"{file.parent.name}: {file.stem.removeprefix('one_image-')}"
            lines.append([name, f"{row['successes']}/{row['episodes']}", ", ".join(counts)])
        print(markdown_table(["row", "planner", "baselines"], lines))
        for model in RECIPES:
            rows = read_lines(self.work / f"{model}_2" / "metrics.jsonl")
            last = {k: round(v, 4) for k, v in rows[-1].items() if "head" in k} if rows else {}
            print(model, last)
        for note in self.parts.notes:
            print(f"not done: {note}")


def is_result(file: Path) -> bool:
    """Whether a file of WORK belongs to the results."""
    if file.parts[0] in ("data", "index", "cache") or {"checkpoints", "runs"} & set(file.parts):
        return False
    return file.suffix in (".json", ".jsonl", ".log", ".png", ".steps", ".done") or (
        file.name.endswith("-decoder.safetensors")
    )


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSONL file; empty if there is none."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def decode(folder: str, index: str, cache: str, cores: str) -> None:
    """Index a folder of episodes, and decode it into the cache, as the trainings do."""
    from worldmodel.data.index import build_index
    from worldmodel.data.inspection import IndexOptions
    from worldmodel.data.memory import open_clips

    build_index(Path(folder), Path(index), IndexOptions(), workers=int(cores))
    open_clips(index, 2, 128, cache=cache, workers=int(cores))


def main() -> int:
    """Run everything, or decode one folder."""
    if sys.argv[1:2] == ["decode"]:
        decode(*sys.argv[2:])
        return 0
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    run = Run(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/gpu_one_goal"))

    def leave(*_: object) -> None:
        run.parts.stop()
        run.guarded(run.pack)
        os._exit(143)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    run.all()
    return 1 if run.parts.notes else 0


if __name__ == "__main__":
    raise SystemExit(main())
