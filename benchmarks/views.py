"""Measure what a second view is worth: the same data, steps and seed, with one view and with two.

python benchmarks/views.py OUT [VIEWS ...]

records contact play of three cameras at 64 px in OUT, trains a small model at 32 px for each VIEWS
(left, left,wrist and left,right unless given), probes it on unseen episodes, and writes
results/views.json and the table of docs/training.md. Finished parts are kept. An arm takes about 2
minutes on one core.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from page_blocks import fill_blocks, markdown_table

from planning.cli.app import compose_options, main
from worldmodel import load_world_model
from worldmodel.atomic_io import write_json
from worldmodel.training.distributed import Ranks
from worldmodel.training.run import open_task

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "views.json"
PAGE = HERE.parent / "docs" / "training.md"
ARMS = ("left", "left,wrist", "left,right")
STEPS, BATCH, SEED = 300, 32, 0
SIZES = {"train": (600, 0), "val": (150, 5_000_000)}
"""Folder -> number of episodes and first seed."""
PLANS, HORIZON = 150, 8
SHOWN = ("imagined_cm", "copy_cm", "encoded_cm", "moved_cm", "clips")
"""Figures that are kept of pushed and lifted objects."""


def recording(out: Path, name: str) -> list[str]:
    """Words that record a folder of episodes."""
    episodes, seed = SIZES[name]
    words = ["collect", f"out={out / name}", "mix=contact", "image_size=64", "workers=1"]
    return [*words, "cameras=left,right,wrist", f"episodes={episodes}", f"seed={seed}"]


def data_of(out: Path) -> list[str]:
    """Words that name the data of training and probes."""
    return [f"data={out / 'train'}", f"val={out / 'val'}", f"cache={out / 'cache'}"]


def folder_of(out: Path, views: str) -> Path:
    """Folder of an arm's run."""
    return out / views.replace(",", "-")


def training(out: Path, views: str) -> list[str]:
    """Words that train an arm."""
    return [
        *("mode=joint", *data_of(out), f"views={views}", f"out={folder_of(out, views)}"),
        *("image_size=32", "patch_size=32", "stem_channels=[8,16,32]", "encoder_dim=96"),
        *("predictor_dim=96", "predictor_depth=2", "num_frames=9", f"steps={STEPS}"),
        *(f"batch_size={BATCH}", "bf16=false", "plan_clips=0", f"eval_every={STEPS}"),
        *("rollout_kind=free", "rollout_steps=8", "teacher_forcing=0", "contact_share=0.5"),
        *("head_weight=2", "head_label=simulator", "val_clips=128"),
        *("save_every=100", "threads=1", f"seed={SEED}", "device=cpu"),
    ]


def least_cpu_s(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the least processor time of a repeated work [s]; a busy machine hardly alters it."""
    found = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def costs(out: Path, views: str) -> dict[str, float]:
    """Return the processor times of a training step and of imagining plans, on one core."""
    torch.set_num_threads(1)
    options = compose_options("train", training(out, views))
    task = open_task(options, Ranks())
    objective = task.build(torch.device("cpu"))
    batch = task.load(0, np.arange(BATCH), slice(0, BATCH))

    def step() -> None:
        objective(batch)["loss"].backward()
        objective.zero_grad(set_to_none=True)

    world = load_world_model(folder_of(out, views), "cpu")
    p = world.predictor.config
    z, state = torch.randn(1, p.num_tokens, p.encoder_dim), torch.zeros(1, 7)
    actions = torch.zeros(PLANS, HORIZON, 7)
    with torch.no_grad():
        imagine_s = least_cpu_s(lambda: world.unroll(z, state, actions))
    return {"training_step_s": least_cpu_s(step), "plans_s": imagine_s}


def measure(out: Path, views: str) -> dict[str, Any]:
    """Train and probe an arm; return its figures."""
    folder = folder_of(out, views)
    assert main(["train", *training(out, views)]) == 0
    words = [*data_of(out), f"model={folder}", f"out={folder / 'probes'}", "device=cpu"]
    assert (
        main(["inspect", "probes", *words, "count=2000", "fit_steps=600", "rollout_clips=600"]) == 0
    )
    probes = json.loads((folder / "probes" / "summary.json").read_text(encoding="utf-8"))
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    pushed, lifted = (
        {name: probes["rollouts"][kind][str(HORIZON)][name] for name in SHOWN}
        for kind in ("pushed", "lifted")
    )
    return {
        "views": views.split(","),
        "steps": STEPS,
        "parameters": summary["parameters"],
        "head_encoded_cm": 100 * summary["last"]["val_head_encoded_m"],
        "probe_encoded_cm": 100 * probes["object_encoded_m"],
        "hand_cm": 100 * probes["tcp_encoded_m"],
        "pushed": pushed,
        "lifted": lifted,
        **costs(out, views),
    }


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return the table of all arms."""
    head = ["views", "object, encoded", "(probe)", "pushed, 8 steps", "(copy)", "lifted, 8 steps"]
    head += ["(copy)", "hand", "training step", "150 plans of 8"]
    rows = []
    for views, row in found.items():
        pushed, lifted = row["pushed"], row["lifted"]
        cells = [row["head_encoded_cm"], row["probe_encoded_cm"]]
        cells += [pushed["imagined_cm"], pushed["copy_cm"]]
        cells += [lifted["imagined_cm"], lifted["copy_cm"]]
        shown = [f"{value:.1f} cm" for value in cells] + [f"{row['hand_cm']:.2f} cm"]
        times = [f"{row['training_step_s']:.2f} s", f"{row['plans_s']:.2f} s"]
        rows.append([views.replace(",", ", "), *shown, *times])
    return markdown_table(head, rows)


def run(out: Path, arms: tuple[str, ...]) -> None:
    """Record, train, probe and write all arms."""
    for name in SIZES:
        assert main(recording(out, name)) == 0
    for views in arms:
        row = measure(out, views)
        before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
        found = before | {views: row}
        write_json(RESULTS, {name: found[name] for name in sorted(found, key=len)})
    fill_blocks(PAGE, {"views": table(json.loads(RESULTS.read_text(encoding="utf-8")))})


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    run(Path(sys.argv[1]), tuple(sys.argv[2:]) or ARMS)
