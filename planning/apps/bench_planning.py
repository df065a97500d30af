"""Time the published planning loop and ours side by side in one run.

The baseline recomputes the whole history for every imagined step, in float32, with a mask made each
time and poses through NumPy, as the published planner does; ours keeps keys and values.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor

import envs
from planning.apps.attention_backends import choose_backend
from planning.bench_options import BenchOptions
from planning.bounds import Bounds
from planning.energy import energy
from planning.errors import PlanError
from planning.solvers.cem import CEM
from planning.solvers.device_cem import DeviceCEM
from planning.solvers.icem import ICEM
from robot.pose import apply_action
from worldmodel.checkpoint import load
from worldmodel.models.config import EncoderConfig, ModelConfig, PredictorConfig
from worldmodel.models.kernels import optimize_for_cpu
from worldmodel.models.kernels.cpu_linear import linear
from worldmodel.models.world_model import WorldModel, normalise
from worldmodel.specs import ObservationSpec

SIZES: dict[str, dict[str, int]] = {
    "small": {"side": 1, "encoder": 256, "width": 256, "depth": 4, "heads": 4},
    "medium": {"side": 8, "encoder": 384, "width": 384, "depth": 6, "heads": 6},
    "ac-vitl": {"side": 16, "encoder": 1024, "width": 1024, "depth": 24, "heads": 16},
    "ac": {"side": 16, "encoder": 1408, "width": 1024, "depth": 24, "heads": 16},
}
"""`small` is the embedded model's shape, `ac` the published 305 M predictor's for ViT-g, `ac-vitl`
the same for ViT-L."""
SAMPLES = {"small": 256, "medium": 16, "ac-vitl": 1, "ac": 1}


def make_world(size: str) -> WorldModel:
    """A world model with random weights and the predictor of a size.

    Raises:
        PlanError: unknown size.
    """
    if size not in SIZES:
        raise PlanError(f"Unknown size {size!r}; known: {', '.join(SIZES)}")
    s = SIZES[size]
    torch.manual_seed(0)
    predictor = PredictorConfig(
        grid=(s["side"], s["side"]),
        encoder_dim=s["encoder"],
        embed_dim=s["width"],
        depth=s["depth"],
        num_heads=s["heads"],
        num_frames=16,
    )
    encoder = EncoderConfig(embed_dim=s["encoder"], depth=0, num_heads=1)
    config = ModelConfig(encoder=encoder, predictor=predictor, observation=ObservationSpec())
    world = WorldModel.from_config(config)
    return world.eval().requires_grad_(False)


def whole_history(world: WorldModel, z: Tensor, state: Tensor, actions_BKA: Tensor) -> Tensor:
    """Imagine as published: whole history, mask built at each step, poses through NumPy.

    With a model that was optimised for the CPU, the difference left is what caching gains.
    """
    batch, horizon = actions_BKA.shape[:2]
    frames, states = z.expand(batch, -1, -1)[:, None], state.expand(batch, -1)[:, None]
    out = []
    for k in range(horizon):
        world.predictor._masks.clear()  # noqa: SLF001 - the published module makes it each step
        found = world.predict(frames, actions_BKA[:, : k + 1], states)[:, -1:]
        out.append(found)
        frames = torch.cat([frames, found], 1)
        after = apply_action(states[:, -1].cpu().numpy(), actions_BKA[:, k].cpu().numpy())
        new = torch.from_numpy(np.asarray(after, dtype=np.float32)).to(z.device)
        states = torch.cat([states, new[:, None]], 1)
    return torch.cat(out, 1)


def _clock(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def matmul_peak(dtype: torch.dtype, device: str) -> float:
    """Measured FLOP/s of a large matrix product, by the faster library."""
    n = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    times = []
    for _ in range(5):
        for product in (torch.matmul, linear):
            began = _clock(device)
            product(a, b)
            times.append(_clock(device) - began)
    return 2 * n**3 / min(times)


def step_flops(size: str) -> float:
    """Multiply-adds x 2 of the matrix products of one imagined step of one sample, cached."""
    s = SIZES[size]
    tokens = s["side"] ** 2 + 2
    return 2.0 * tokens * s["depth"] * 12 * s["width"] ** 2


def chunked(unroll: Callable[[Tensor], Tensor], chunk: int) -> Callable[[Tensor], Tensor]:
    """Last frames [B, N, D], imagined for `chunk` samples at once."""
    return lambda actions: torch.cat([unroll(part)[:, -1] for part in actions.split(chunk)])


def samples_at_once(world: WorldModel, horizon: int, options: BenchOptions) -> int:
    """How many samples `memory_gb` has room for."""
    room = options.memory_gb * 1e9
    if not room:
        cuda = options.device == "cuda"
        room = 0.5 * torch.cuda.mem_get_info()[0] if cuda else 4e9
    return max(1, int(room / world.bytes_per_sample(horizon)))


def _optimized(world: WorldModel) -> WorldModel:
    """Return a copy of a model with the fast layers of its device."""
    copied = copy.deepcopy(world)
    return optimize_for_cpu(copied) if next(copied.parameters()).device.type == "cpu" else copied


@torch.inference_mode()
def measure(size: str, horizon: int, options: BenchOptions) -> dict[str, Any]:
    """One row: seconds of a whole CEM search by each way, interleaved."""
    device = options.device
    plain = make_world(size).to(device)
    world, half = _optimized(plain), _optimized(plain)
    half.predictor.to(torch.bfloat16)
    samples = options.samples or SAMPLES[size]
    s = SIZES[size]
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(2, s["side"] ** 2, s["encoder"], generator=generator)
    z, goal = normalise(tokens.to(device)).split(1)
    state = torch.tensor([[0.5, 0.0, 0.3, 3.0, 0.0, 0.0, 0.0]], device=device)

    def exact(actions: Tensor) -> Tensor:
        return world.unroll(z, state, actions.to(device))

    def bf16(actions: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            return half.unroll(z.bfloat16(), state, actions.to(device)).float()

    def baseline(actions: Tensor) -> Tensor:
        return whole_history(plain, z, state, actions.to(device))

    def same_products(actions: Tensor) -> Tensor:
        return whole_history(world, z, state, actions.to(device))

    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "baseline": baseline,
        "exact": exact,
        "bf16": bf16,
        "same_products": same_products,
    }
    chunk = samples_at_once(world, horizon, options)
    search: dict[str, Any] = {
        "num_samples": max(2, samples),
        "iterations": options.iterations,
        "num_elites": max(2, min(10, samples)),
    }
    optimisers: dict[str, CEM] = dict.fromkeys(ways, CEM(**search))
    kernels: dict[str, float] = {}
    if device == "cuda":  # ours stays on the device and replays a captured iteration
        optimisers["exact"] = optimisers["bf16"] = DeviceCEM(**search)
        shape = (max(2, samples), s["heads"], s["side"] ** 2 + 2, s["width"] // s["heads"])
        kernels = choose_backend(half.predictor, shape, torch.bfloat16)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    energies: dict[str, float] = {}
    for repeat in range(options.repeats + 1):
        for name, way in ways.items():
            if name == "same_products" and repeat < options.repeats:
                continue  # once is enough for the row beside
            ends = chunked(way, chunk)
            began = _clock(device)
            plan = optimisers[name].minimise(
                lambda a, ends=ends: energy(ends(a), goal),  # type: ignore[misc]
                Bounds(gripper="published"),
                torch.Generator().manual_seed(0),
                horizon=horizon,
            )
            if repeat:  # the first round warms up
                seconds[name].append(_clock(device) - began)
            energies[name] = plan.energy
    probe = 0.02 * torch.randn(min(4, max(2, samples)), horizon, 7, generator=generator)
    difference = float((exact(probe) - baseline(probe)).abs().max())
    took = {name: statistics.median(values) for name, values in seconds.items()}
    work = step_flops(size) * horizon * max(2, samples) * options.iterations
    return {
        "size": size,
        "horizon": horizon,
        "samples": max(2, samples),
        "iterations": options.iterations,
        "baseline_s": took["baseline"],
        "exact_s": took["exact"],
        "bf16_s": took["bf16"],
        "ratio_exact": took["baseline"] / took["exact"],
        "ratio_bf16": took["baseline"] / took["bf16"],
        "same_products_s": took["same_products"],
        "ratio_same_products": took["same_products"] / took["exact"],
        "samples_at_once": chunk,
        "max_abs_diff": difference,
        "energy_baseline": energies["baseline"],
        "energy_exact": energies["exact"],
        "energy_bf16": energies["bf16"],
        "attention_ms": kernels,
        "flops_exact": work / took["exact"],
        "flops_bf16": work / took["bf16"],
    }


@torch.inference_mode()
def equal_energy(options: BenchOptions) -> dict[str, Any]:
    """Samples and seconds iCEM needs for the energy that the published loop's 800 x 10 reaches.

    The embedded model on real pairs of pictures (reach episodes); energies are means over pairs,
    and equal means at most a thousandth above.
    """
    world, env = load("default", options.device), envs.make("reach")
    costs: list[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = []
    for seed in range(options.pairs):
        seen, _ = env.reset(seed=seed)
        goal = world.encode(torch.from_numpy(env.sub_goals()[-1].image[None]))
        z = world.encode(torch.from_numpy(seen["image"][None]))
        state = torch.from_numpy(seen["state"][None]).to(z.device)

        def end(unroll: Any, z: Tensor = z, state: Tensor = state, goal: Tensor = goal) -> Any:
            return lambda a: energy(unroll(z, state, a.to(z.device))[:, -1], goal)

        costs.append((end(partial(whole_history, world)), end(world.unroll)))
    env.close()
    bounds = Bounds()

    def mean_of(optimiser: Any, which: int) -> tuple[float, float]:
        plans, began = [], _clock(options.device)
        for pair in costs:
            plans.append(optimiser.minimise(pair[which], bounds, torch.Generator().manual_seed(0)))
        seconds = (_clock(options.device) - began) / len(costs)
        return statistics.mean(p.energy for p in plans), seconds

    mean_of(ICEM(), 1)
    wanted, slow = mean_of(CEM(), 0)
    row: dict[str, Any] = {"baseline_samples": 8000, "baseline_energy": wanted, "baseline_s": slow}
    for samples, iterations in ((16, 4), (32, 4), (32, 6), (64, 6), (64, 10), (128, 10), (256, 12)):
        optimiser = ICEM(num_samples=samples, iterations=iterations, num_elites=6)
        found, seconds = mean_of(optimiser, 1)
        if found <= 1.001 * wanted:
            return row | {
                "icem_samples": samples,
                "icem_iterations": iterations,
                "icem_energy": found,
                "icem_s": seconds,
                "ratio": slow / seconds,
            }
    return row


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """Ratios over the baseline by size and horizon."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4))
    labels = [f"{r['size']}\nH={r['horizon']}" for r in rows]
    places = np.arange(len(rows))
    axis.bar(places - 0.2, [r["ratio_exact"] for r in rows], 0.4, label="cached, float32")
    axis.bar(places + 0.2, [r["ratio_bf16"] for r in rows], 0.4, label="cached, bf16")
    axis.axhline(1.0, color="black", linewidth=0.8)
    axis.set_xticks(places, labels, fontsize=8)
    axis.set_ylabel("times faster than the published loop")
    axis.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)


def matmul_peaks(device: str) -> dict[str, float]:
    """Measured FLOP/s of large matrix products by number format."""
    types = (torch.float32, torch.bfloat16)
    return {str(t).removeprefix("torch."): matmul_peak(t, device) for t in types}


def device_name(device: str) -> str:
    """Name of the device for the summary."""
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"
