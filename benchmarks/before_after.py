"""Processor time of encoding, planning and training in two checkouts, alternating in one run.

    git worktree add /tmp/before COMMIT
    python benchmarks/before_after.py /tmp/before [--rounds 2]
    python benchmarks/before_after.py page                      # only the page

Measures that checkout and this one in processes of their own, one after the other in each round:
an encoder, the searches of `worldmodel bench planning quick=true`, a training step and a step of
`worldmodel pretrain recipe=shapes`. Processor time of one thread does not count what other programs
take. Writes the results and docs/cuda.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from page_blocks import fill_blocks, markdown_table

HERE = Path(__file__).resolve().parent
OUT, PAGE = HERE / "results" / "before_after.json", HERE.parent / "docs" / "cuda.md"
TREES = ("before", "after")
REPEATS = 5
Found = dict[str, list[float]]
"""Name -> processor time [ms] and a number that the result depends on."""


def timed(function: Callable[[], Any]) -> list[float]:
    """Return the least processor time [ms] of several calls, and the mean of the result."""
    value = function()
    best = float("inf")
    for _ in range(REPEATS):
        began = time.process_time()
        function()
        best = min(best, time.process_time() - began)
    return [1e3 * best, float(value)]


def processor_s(_device: str) -> float:
    """Return the processor time of this process [s], in place of a monotonic clock."""
    return time.process_time()


def inference() -> Found:
    """Time an encoder, and the searches of `bench planning quick=true`."""
    import torch

    from planning.apps import bench_planning
    from planning.bench_options import BenchOptions
    from worldmodel.checkpoints.loading import load_encoder

    torch.manual_seed(0)
    frames = torch.randint(0, 256, (2, 256, 256, 3), dtype=torch.uint8)
    found: Found = {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        encoder = load_encoder("random:vit_small", "cpu", precision)
        work = partial(mean_token, encoder, frames)
        found[f"encode 2 frames, ViT-S, {precision}"] = timed(work)
    options = BenchOptions(quick=True).resolved()
    with mock.patch.object(bench_planning, "clock", processor_s):
        for size in options.sizes:
            for horizon in options.horizons:
                row = bench_planning.measure(size, horizon, options)
                title = f"plan, {row.size}, horizon {row.horizon}"
                found[f"{title}, published loop"] = [1e3 * row.baseline_s, row.energy_baseline]
                found[f"{title}, float32"] = [1e3 * row.exact_s, row.energy_exact]
                found[f"{title}, bfloat16"] = [1e3 * row.bf16_s, row.energy_bf16]
    return found


def mean_token(encoder: Any, frames: Any) -> float:
    """Encode frames; return the mean absolute value of the tokens."""
    return float(encoder.encode(frames).abs().mean())


def pretraining() -> Found:
    """Time a step of `worldmodel pretrain recipe=shapes`, on one batch: losses to average."""
    import numpy as np
    import torch

    from planning.cli.app import compose_options
    from worldmodel.models.kernels import optimize_for_cpu
    from worldmodel.models.precision import autocast
    from worldmodel.training.distributed import Ranks
    from worldmodel.training.run import open_optimizer, open_task

    def steps(objective: str) -> list[float]:
        words = ["recipe=shapes", f"objective={objective}", "probe_clips=64", "loop.val_clips=16"]
        options, device = compose_options("pretrain", words), torch.device("cpu")
        task = open_task(options, Ranks())
        torch.manual_seed(0)
        model = optimize_for_cpu(task.build(device))
        optimizer, losses = open_optimizer(task, device), task.losses(model, device)
        clips = np.arange(options.loop.batch_size)

        def step() -> Any:
            batch = task.load(0, clips, slice(None))
            with autocast(device, bf16=options.loop.bf16, weights=torch.float32):
                loss = losses(batch)["loss"]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(list(model.parameters()), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            task.after_step(0)
            return loss.detach()

        return timed(step)

    return {f"step of recipe=shapes, {name}": steps(name) for name in ("latent", "pixels")}


def training() -> Found:
    """Time a training step of a checkout, in float32 and by autocast."""
    import torch

    from worldmodel.models.ac_predictor import ActionConditionedPredictor
    from worldmodel.models.config import PredictorConfig
    from worldmodel.models.dynamics import LatentDynamics
    from worldmodel.models.model_config import DynamicsConfig
    from worldmodel.training.objective import Objective, ObjectiveConfig

    shapes = {"features": (2, 6, 64, 384), "states": (2, 6, 7), "actions": (2, 5, 7)}
    config = PredictorConfig(
        grid=(8, 8), encoder_dim=384, embed_dim=256, depth=4, num_heads=4, num_frames=8
    )

    def steps(*, low: bool) -> list[float]:
        torch.manual_seed(0)
        predictor = ActionConditionedPredictor(config)
        objective = Objective(
            LatentDynamics(DynamicsConfig(predictor=config), predictor), ObjectiveConfig()
        )
        optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-4)
        batch = {key: torch.randn(shape) for key, shape in shapes.items()}

        def step() -> Any:
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                loss = objective(batch)["loss"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return loss.detach()

        return timed(step)

    return {"training step, float32": steps(low=False), "training step, bfloat16": steps(low=True)}


def measure_tree() -> None:
    """Print the figures of the checkout that Python imports."""
    import torch

    torch.set_num_threads(1)
    with torch.inference_mode():
        found = inference()
    print(json.dumps(found | training() | pretraining()))


def in_tree(tree: Path, words: list[str]) -> str:
    """Run Python with a checkout's packages; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=tree, env=environment, check=True, stdout=subprocess.PIPE
    )
    return done.stdout.decode()


def measure(before: Path, rounds: int) -> dict[str, Any]:
    """Run both checkouts in turns; return the medians."""
    trees = dict(zip(TREES, (before.resolve(), HERE.parent), strict=True))
    runs: dict[str, list[Found]] = {name: [] for name in TREES}
    for turn in range(rounds):
        for name in TREES if turn % 2 == 0 else TREES[::-1]:
            print(f"round {turn + 1}: {name}", flush=True)
            printed = in_tree(trees[name], [str(HERE / "before_after.py"), "tree"])
            runs[name].append(json.loads(printed.splitlines()[-1]))
    rows = []
    for key in runs["before"][0]:
        row: dict[str, Any] = {"what": key}
        for name in TREES:
            row[f"{name}_ms"] = statistics.median(found[key][0] for found in runs[name])
            row[f"{name}_value"] = runs[name][0][key][1]
        ratios = [b[key][0] / a[key][0] for a, b in zip(*runs.values(), strict=True)]
        rows.append(row | {"ratio": statistics.median(ratios)})
    return {"rounds": rounds, "rows": rows}


def write_page(found: dict[str, Any]) -> None:
    """Fill the block of docs/cuda.md."""
    head = ["one thread", "before [ms]", "after [ms]", "after / before"]
    cells = [
        [r["what"], f"{r['before_ms']:.1f}", f"{r['after_ms']:.1f}", f"{r['ratio']:.2f}"]
        for r in found["rows"]
    ]
    fill_blocks(PAGE, {"before-after": markdown_table(head, cells)})


def main() -> None:
    """Measure, unless only the page is written, and write the results and the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before", help="checkout to compare with, or `page`")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of both checkouts")
    options = parser.parse_args()
    if options.before == "tree":  # this script in a process of its own
        measure_tree()
        return
    if options.before != "page":
        found = measure(Path(options.before), options.rounds)
        OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    found = json.loads(OUT.read_text(encoding="utf-8"))
    write_page(found)
    for row in found["rows"]:
        print(row)


if __name__ == "__main__":
    main()
