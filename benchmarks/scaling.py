"""Plan DROID's training at several sizes, and measure on one CPU thread what the plan needs.

    python benchmarks/scaling.py measure   # results/scaling.json (a minute), then the page
    python benchmarks/scaling.py           # only the page, docs/scaling.md

Measured figures are CPU seconds of one thread. What GPUs do is estimated from counted operations,
the share of its peak that one H100 used, and the assumptions below.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data import X264, textured
from gpu_encoder import encoder_flops
from page_blocks import fill_blocks, markdown_table
from training import vitg_memory

from worldmodel.atomic_io import write_json
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.inspection import IndexOptions
from worldmodel.data.prepare import PrepareOptions, prepare
from worldmodel.data.prepared import PreparedClips
from worldmodel.data.readers.options import ReadOptions
from worldmodel.data.shard_file import write_shard
from worldmodel.data.transforms import Preprocess
from worldmodel.data.writers.synthetic import random_states, write_dataset
from worldmodel.data.writers.video import write_video
from worldmodel.models.encoder import preset

HERE = Path(__file__).resolve().parent
OUT = HERE / "results" / "scaling.json"
DATA = HERE / "results" / "data.json"
PAGE = HERE.parent / "docs" / "scaling.md"

GPUS = (1, 8, 64, 512)
PER_NODE = 8
CORES = 96
"""Cores of a node with 8 GPUs."""
PEAK, SHARE = 989e12, 0.28
"""Dense bfloat16 peak of an H100 by its data sheet [FLOP/s], and the share in use: measured for a
post-training step (8 clips in 0.326 s, 11.5 TFLOP each without recomputation) and for ViT-L."""
NVLINK, NETWORK = 300e9, 40e9
"""Assumed: bytes per second and GPU of an all-reduce inside a node, and between nodes (400 Gb/s a
GPU, 80 % of it used)."""
BATCH, STEPS, FRAMES, TOKENS = 256, 94_500, 16, 256
"""The published run: clips a step, steps, frames of a clip, tokens of a frame."""
EPISODES, HOURS, RAW_HOURS = 23_000, 62, 350
"""DROID: episodes and hours that V-JEPA 2-AC was trained on, and hours in all (95,600 episodes)."""
FPS, CAMERAS = 4, 3
MIB, GIB = 2**20, 2**30


def cpu_seconds(work: Callable[[], Any]) -> float:
    """Return the CPU seconds of a function."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measure() -> dict[str, Any]:
    """Measure index, preparation and reading on videos of DROID's size."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_dataset(root / "data", episodes=1, steps=180, size=(720, 1280))
        (video,) = (root / "data").rglob("*.mp4")  # drawn: far easier to decode than a camera's
        frames = textured(180, (720, 1280))
        write_video(video, frames, header_fps=60, codec="libx264", options=X264)
        decode = cpu_seconds(lambda: build_index(root / "data", root / "index", workers=1))
        packets = IndexOptions(read=ReadOptions(decode=False))
        fast = cpu_seconds(lambda: build_index(root / "data", root / "p", packets, workers=1))
        manifest = open_manifest(root / "index")
        options, transform = PrepareOptions(), Preprocess("droid", (256, 256))
        prepared = cpu_seconds(lambda: prepare(manifest, root / "frames", options, transform))
        summary = json.loads((root / "frames" / "summary.json").read_text(encoding="utf-8"))
        write_features(root / "features")
        stored = PreparedClips(root / "features", FRAMES)
        draw = np.random.default_rng(0)
        numbers = draw.integers(0, len(stored), 40)
        read = cpu_seconds(lambda: [stored.batch(numbers[i : i + 1]) for i in range(40)])
    seconds = 180 / 15
    return {
        "index_decode_cpu_s_per_recorded_s": round(decode / seconds, 5),
        "index_packets_cpu_s_per_recorded_s": round(fast / seconds, 5),
        "prepared_frames_per_cpu_s": round(summary["frames"] / prepared, 1),
        "vitg_feature_clips_per_cpu_s": round(40 / read, 1),
    }


def write_features(folder: Path) -> None:
    """Write prepared features of ViT-g's size."""
    options = PrepareOptions(what="features", encoder_hash="0" * 16)
    folder.mkdir()
    tensors = {
        "states": torch.from_numpy(random_states(60, 0)),
        "starts": torch.tensor([0, 60]),
        "features": torch.randn(60, TOKENS, 1408).to(torch.bfloat16),
    }
    write_shard(folder / "shard-000000.safetensors", tensors)
    write_json(folder / "plan.json", {"options": asdict(options)})
    write_json(folder / "summary.json", {"shards": 1})


def predictor_flops() -> float:
    """Return the FLOPs of one clip's training step: teacher forcing over 15 frames.

    Two per weight and token for the forward pass, and attention over all pairs of tokens (its
    masked half included, as a dense mask computes it). The backward pass costs twice as much, and
    the recipe's recomputation of activations another forward pass. The rollout over 2 frames is
    left out.
    """
    tokens, width, depth = 15 * (TOKENS + 2), 1024, 24
    forward = 2.0 * vitg_memory()["predictor_parameters"] * tokens + 4.0 * depth * tokens**2 * width
    return 4 * forward


def clip_encoder_flops() -> float:
    """Return the FLOPs of encoding one clip, every frame alone, with ViT-g."""
    return FRAMES * encoder_flops(preset("vit_giant"), TOKENS)


def all_reduce_s(gpus: int, gradient_bytes: float) -> float:
    """Return the seconds of a ring all-reduce by the slowest link."""
    if gpus == 1:
        return 0.0
    speed = NVLINK if gpus <= PER_NODE else NETWORK
    return 2 * (gpus - 1) / gpus * gradient_bytes / speed


def plan(gpus: int, found: dict[str, Any]) -> dict[str, float]:
    """Return what one run costs on a number of GPUs; see the page for the arithmetic."""
    memory, batch = vitg_memory(), max(BATCH, gpus)
    clips = batch / gpus
    from_features = clips * predictor_flops() / (PEAK * SHARE)
    from_frames = from_features + clips * clip_encoder_flops() / (PEAK * SHARE)
    reduce = all_reduce_s(gpus, 4 * memory["predictor_parameters"])
    steps = STEPS * BATCH / batch
    node_clips = clips * min(gpus, PER_NODE)
    frames_step, features_step = from_frames + reduce, from_features + reduce
    micro = min(clips, 16)
    raw_s = RAW_HOURS * 3600
    cores = CORES * math.ceil(gpus / PER_NODE)
    stored = HOURS * 3600 * FPS
    return {
        "batch": batch,
        "clips": clips,
        "memory_gib": memory["weights_gradients_adam_gib"]
        + memory["frozen_encoder_bf16_gib"]
        + micro * memory["activations_per_clip_recomputed_gib"],
        "frames_step_s": frames_step,
        "features_step_s": features_step,
        "reduce_s": reduce,
        "frames_days": frames_step * steps / 86_400,
        "features_days": features_step * steps / 86_400,
        "jpeg_cores": node_clips / frames_step / found["prepared_clips_per_s"],
        "feature_cores": node_clips / features_step / found["vitg_feature_clips_per_cpu_s"],
        "feature_gb_s": node_clips / features_step * memory["features_per_clip_mib"] * MIB / 1e9,
        "index_h": CAMERAS * raw_s * found["index_decode_cpu_s_per_recorded_s"] / cores / 3600,
        "prepare_h": stored / found["prepared_frames_per_cpu_s"] / cores / 3600,
        "encode_h": stored * clip_encoder_flops() / FRAMES / (PEAK * SHARE) / gpus / 3600,
    }


def hours(value: float) -> str:
    """Format hours, or minutes or days where they are easier to read."""
    if value < 1:
        return f"{60 * value:.1f} min"
    return f"{value:.1f} h" if value < 48 else f"{value / 24:.0f} days"


ROWS: tuple[tuple[str, Callable[[dict[str, float]], str]], ...] = (
    ("clips a step; per GPU", lambda p: f"{p['batch']:.0f}; {p['clips']:g}"),
    ("memory per GPU, micro-batches of 16 at most", lambda p: f"{p['memory_gib']:.1f} GiB"),
    ("index all 350 h, every frame of 3 cameras decoded", lambda p: hours(p["index_h"])),
    ("prepare frames of the 62 h", lambda p: hours(p["prepare_h"])),
    ("store features of the 62 h (ViT-g)", lambda p: hours(p["encode_h"])),
    ("step from frames", lambda p: f"{p['frames_step_s']:.3g} s"),
    ("step from features", lambda p: f"{p['features_step_s']:.3g} s"),
    ("of it all-reduce, if nothing overlaps", lambda p: f"{p['reduce_s']:.3g} s"),
    ("whole run from frames", lambda p: hours(24 * p["frames_days"])),
    ("whole run from features", lambda p: hours(24 * p["features_days"])),
    ("cores a node that decode prepared frames", lambda p: f"{p['jpeg_cores']:.1f}"),
    ("cores a node that read features", lambda p: f"{p['feature_cores']:.1f}"),
    ("features read a node", lambda p: f"{p['feature_gb_s']:.2g} GB/s"),
)


def measured_table(found: dict[str, Any]) -> str:
    """Format what was measured and counted."""
    rows = [
        (
            "index, every frame of a camera decoded",
            f"{found['index_decode_cpu_s_per_recorded_s']:.3f} CPU s per recorded second",
        ),
        (
            "index, packets counted",
            f"{found['index_packets_cpu_s_per_recorded_s']:.4f} CPU s per recorded second",
        ),
        ("prepare frames", f"{found['prepared_frames_per_cpu_s']:.0f} frames per CPU s"),
        ("read clips of prepared frames", f"{found['prepared_clips_per_s']:.0f} clips per CPU s"),
        (
            "read clips of ViT-g features",
            f"{found['vitg_feature_clips_per_cpu_s']:.0f} clips per CPU s",
        ),
        ("counted: encode a clip with ViT-g", f"{clip_encoder_flops() / 1e12:.1f} TFLOP"),
        ("counted: train the predictor on a clip", f"{predictor_flops() / 1e12:.1f} TFLOP"),
    ]
    return markdown_table(["what, on videos of 1280 x 720", "figure"], rows)


def write_page(found: dict[str, Any]) -> None:
    """Fill the blocks of docs/scaling.md."""
    stored = json.loads(DATA.read_text(encoding="utf-8"))["clips_per_s"]["prepared_frames"]
    found = found | {"prepared_clips_per_s": stored}
    plans = [plan(gpus, found) for gpus in GPUS]
    rows = [[name, *(form(p) for p in plans)] for name, form in ROWS]
    head = ["estimated", *(f"{n} GPU{'s' if n > 1 else ''}" for n in GPUS)]
    blocks = {"measured": measured_table(found), "plan": markdown_table(head, rows)}
    fill_blocks(PAGE, blocks)


def main() -> None:
    """Measure if asked to, then write the page."""
    if "measure" in sys.argv:
        write_json(OUT, measure())
    write_page(json.loads(OUT.read_text(encoding="utf-8")))
    print(PAGE)


if __name__ == "__main__":
    main()
