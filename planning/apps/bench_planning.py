"""Benchmark the published planning loop against ours in one run.

Like the published planner, the baseline recomputes the whole history for every predicted step, in
float32, with a new mask each time and poses in NumPy; ours caches keys and values.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from planning.apps.attention_backends import choose_backend
from planning.apps.bench_contest import SIZES, Contest, Imagine, step_flops
from planning.bench_options import BenchOptions
from planning.device_clock import clock
from planning.solvers.cem import CEM
from planning.solvers.device_cem import DeviceCEM
from worldmodel.atomic_io import atomic_file
from worldmodel.kept_results import KeptResults
from worldmodel.models.attention import Backend, set_backend
from worldmodel.models.kernels.cpu_linear import linear
from worldmodel.models.world_model import WorldModel

SAMPLES = {"small": 256, "medium": 16, "ac-vitl": 1, "ac": 1}


@dataclass(frozen=True, kw_only=True)
class SpeedRow:
    """Times of one model size and horizon; ratios are speed-ups of ours."""

    size: str
    horizon: int
    samples: int
    iterations: int
    baseline_s: float
    """Median time of the published search [s]."""
    exact_s: float
    """Median time of ours in float32 [s]."""
    bf16_s: float
    """Median time of ours in bfloat16 [s]."""
    compiled_s: float | None
    """CUDA only: the same with compiled blocks, once they are compiled [s]."""
    ratio_exact: float
    ratio_bf16: float
    same_products_s: float | None
    """CPU only: time of the published loop with our matrix products [s]."""
    ratio_same_products: float | None
    samples_at_once: int
    max_abs_diff: float
    """Maximum difference of predicted tokens between ours in float32 and the published loop."""
    energy_baseline: float
    energy_exact: float
    energy_bf16: float
    attention_ms: dict[Backend, float]
    """CUDA only: time of each attention kernel [ms]."""
    flops_exact: float
    flops_bf16: float


def matmul_peak(dtype: torch.dtype, device: str) -> float:
    """Measure the FLOP/s of a large matrix product with the faster library."""
    n = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    times = []
    for _ in range(5):
        for product in (torch.matmul, linear):
            began = clock(device)
            product(a, b)
            times.append(clock(device) - began)
    return 2 * n**3 / min(times)


def samples_at_once(world: WorldModel, horizon: int, options: BenchOptions) -> int:
    """Return the number of samples that fit into `memory_gb`, at least 1."""
    room = options.memory_gb * 1e9
    if not room:
        cuda = options.device == "cuda"
        room = 0.5 * torch.cuda.mem_get_info()[0] if cuda else 4e9
    return max(1, int(room / world.bytes_per_sample(horizon)))


@torch.inference_mode()
def measure(size: str, horizon: int, options: BenchOptions) -> SpeedRow:
    """Time a whole CEM search with each implementation, interleaved in every repeat."""
    contest = Contest(size, options.device)
    samples = max(2, options.samples or SAMPLES[size])
    chunk = samples_at_once(contest.world, horizon, options)
    kind = DeviceCEM if options.device == "cuda" else CEM
    solver, ours = (
        k(num_samples=samples, iterations=options.iterations, num_elites=min(10, samples))
        for k in (CEM, kind)
    )
    kernels: dict[Backend, float] = {}
    if options.device == "cuda":  # ours replays a captured iteration on the device
        s = SIZES[size]
        shape = (samples, s["heads"], s["side"] ** 2 + 2, s["width"] // s["heads"])
        kernels = choose_backend(contest.half.predictor, shape, torch.bfloat16)
        set_backend(contest.compiled.predictor, next(iter(kernels)))
    ways: dict[str, tuple[Imagine, CEM]] = {
        "baseline": (contest.baseline, solver),
        "exact": (contest.exact, ours),
        "bf16": (contest.bf16, ours),
    }
    if options.device == "cuda":
        ways["compiled"] = contest.with_compiled_blocks, ours
    times: dict[str, list[float]] = {name: [] for name in ways}
    energies: dict[str, float] = {}
    for repeat in range(options.repeats + 1):
        for name, (imagine, search) in ways.items():
            took, energies[name] = contest.seconds(imagine, search, horizon, chunk)
            if repeat:  # the first round warms up
                times[name].append(took)
    same_s = None
    if options.device == "cpu":  # on CUDA these are the baseline's own products
        same_s, _ = contest.seconds(contest.same_products, solver, horizon, chunk)
    probe = 0.02 * torch.randn(min(4, samples), horizon, 7, generator=contest.generator)
    medians = {name: statistics.median(found) for name, found in times.items()}
    baseline_s, exact_s, bf16_s = (medians[name] for name in ("baseline", "exact", "bf16"))
    work = step_flops(size) * horizon * samples * options.iterations
    return SpeedRow(
        size=size,
        horizon=horizon,
        samples=samples,
        iterations=options.iterations,
        baseline_s=baseline_s,
        exact_s=exact_s,
        bf16_s=bf16_s,
        compiled_s=medians.get("compiled"),
        ratio_exact=baseline_s / exact_s,
        ratio_bf16=baseline_s / bf16_s,
        same_products_s=same_s,
        ratio_same_products=None if same_s is None else same_s / exact_s,
        samples_at_once=chunk,
        max_abs_diff=float((contest.exact(probe) - contest.baseline(probe)).abs().max()),
        energy_baseline=energies["baseline"],
        energy_exact=energies["exact"],
        energy_bf16=energies["bf16"],
        attention_ms=kernels,
        flops_exact=work / exact_s,
        flops_bf16=work / bf16_s,
    )


def measure_all(options: BenchOptions, keep: Path) -> Iterator[SpeedRow]:
    """Yield the times of all sizes and horizons.

    Args:
        options: Options of the benchmark.
        keep: File that rows are appended to as they come, and from which a run that follows a
            stopped one takes them.
    """
    free = {"sizes", "horizons", "pairs", "quick", "out"}
    made_by = {k: v for k, v in asdict(options).items() if k not in free}
    made_by |= {"on": device_name(options.device), "threads": torch.get_num_threads()}
    with KeptResults(keep, made_by) as kept:
        for size, horizon in itertools.product(options.sizes, options.horizons):
            key = f"{size} {horizon}"
            if kept.get(key) is None:
                kept.add(key, asdict(measure(size, horizon, options)))
            yield SpeedRow(**cast(dict[str, Any], kept.get(key)))


def plot(bars: Sequence[tuple[str, float, float]], file: Path) -> None:
    """Plot the speed-ups; a bar has a label and the ratios in float32 and bfloat16."""
    figure = Figure(figsize=(7, 4))
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    places = np.arange(len(bars))
    axis.bar(places - 0.2, [exact for _, exact, _ in bars], 0.4, label="cached, float32")
    axis.bar(places + 0.2, [bf16 for _, _, bf16 in bars], 0.4, label="cached, bf16")
    axis.axhline(1.0, color="black", linewidth=0.8)
    axis.set_xticks(places, [label for label, _, _ in bars], fontsize=8)
    axis.set_ylabel("times faster than the published loop")
    axis.legend()
    figure.tight_layout()
    with atomic_file(file) as part:
        figure.savefig(part, dpi=120, format="png")


def matmul_peaks(device: str) -> dict[str, float]:
    """Measure the FLOP/s of large matrix products by data type."""
    types = (torch.float32, torch.bfloat16)
    return {str(t).removeprefix("torch."): matmul_peak(t, device) for t in types}


def device_name(device: str) -> str:
    """Return the device's name for the summary."""
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"
