"""Benchmark a post-training step against a plain step, and compute the memory at ViT-g size.

`python benchmarks/training.py` (about a minute on a CPU); writes benchmarks/results/training.json.
The plain step encodes frames every time (no cache), computes in float32 and rebuilds its mask.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldmodel.checkpoints.loading import load_encoder
from worldmodel.models.ac_predictor import ActionConditionedPredictor
from worldmodel.models.config import PredictorConfig
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.model_config import DynamicsConfig
from worldmodel.training.objective import Objective, ObjectiveConfig

BATCH, FRAMES, SIDE, REPEATS = 2, 8, 128, 4


def timed(step: Callable[[], None]) -> float:
    """Return the samples per second of the best of `REPEATS` steps after a warm-up."""
    step()
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - start)
    return BATCH / best


def vitg_memory() -> dict[str, Any]:
    """Return the bytes of one AC training step at ViT-g size, computed from shapes.

    Activations are those of the teacher-forced pass (15 frames) in bfloat16.
    """
    config = PredictorConfig(has_extrinsics_encoder=False)
    with torch.device("meta"):
        predictor = ActionConditionedPredictor(config)
        encoder_weights = sum(
            p.numel() for p in load_encoder("random:vit_giant", "meta").parameters()
        )
    weights = sum(p.numel() for p in predictor.parameters())
    tokens, width = 15 * 258, config.embed_dim
    # per block and token, kept for the backward pass: two norms' inputs and outputs (4), qkv (3),
    # attention's output (1), its projection's residual (1), the MLP's hidden before and after
    # GELU (8): 17 widths in bf16; with recomputation only the block's input (1 width)
    block = tokens * width * 2
    gib = 2**30
    return {
        "predictor_parameters": weights,
        "weights_gradients_adam_gib": round(weights * 16 / gib, 2),
        "frozen_encoder_bf16_gib": round(encoder_weights * 2 / gib, 2),
        "activations_per_clip_gib": round(24 * 17 * block / gib, 2),
        "activations_per_clip_recomputed_gib": round((24 + 17) * block / gib, 2),
        "features_per_clip_mib": round(16 * 256 * 1408 * 2 / 2**20, 1),
    }


def main() -> None:
    """Time both steps in one process, on the same clips and weights."""
    torch.manual_seed(0)
    encoder = load_encoder("random:vit_small", "cpu", image_size=SIDE)
    grid = SIDE // 16
    config = PredictorConfig(
        grid=(grid, grid),
        encoder_dim=384,
        embed_dim=256,
        depth=6,
        num_heads=4,
        has_extrinsics_encoder=False,
    )
    predictor = ActionConditionedPredictor(config)
    dynamics = LatentDynamics(DynamicsConfig(predictor=config), predictor)
    objective = Objective(dynamics, ObjectiveConfig())
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-4)
    frames = torch.randint(0, 256, (BATCH, FRAMES, SIDE, SIDE, 3), dtype=torch.uint8)
    rest = {"states": torch.randn(BATCH, FRAMES, 7), "actions": torch.randn(BATCH, FRAMES - 1, 7)}
    stored = encoder.encode(frames.flatten(0, 1)).unflatten(0, (BATCH, FRAMES)).to(torch.bfloat16)

    def update(features: Tensor) -> None:
        loss = objective({"features": features, **rest})["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def plain() -> None:
        predictor._masks.clear()  # noqa: SLF001 - the plain step builds its mask every time
        features = encoder.encode(frames.flatten(0, 1)).unflatten(0, (BATCH, FRAMES))
        update(features)

    def from_features() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            update(stored.float())

    def from_features_float32() -> None:
        update(stored.float())

    steps = {
        "plain": plain,
        "features_float32": from_features_float32,
        "features_bf16": from_features,
    }
    found = {name: timed(step) for name, step in steps.items()}
    result = {
        "what": f"samples a second, {FRAMES} frames of {SIDE} px, ViT-S encoder, 6-block predictor",
        "samples_per_s": {k: round(v, 3) for k, v in found.items()},
        "ratio_to_plain": {k: round(v / found["plain"], 2) for k, v in found.items()},
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "vit_g_step_computed": vitg_memory(),
        "machine": {"cpu": platform.machine(), "torch": torch.__version__},
    }
    out = Path(__file__).parent / "results" / "training.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
