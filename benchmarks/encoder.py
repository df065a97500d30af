"""Benchmark encoder throughput on a CPU against transformers' VJEPA2Model with the same weights.

Rounds alternate between the models, in both orders, so that other load on the machine affects all
of them equally; results are medians and their ratios in one run.

    python benchmarks/encoder.py [--presets vit_small vit_base] [--frames 16] [--image-size 224]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tqdm import tqdm

from worldmodel.checkpoint import load_published
from worldmodel.models.encoder import PRESETS
from worldmodel.models.kernels import optimize_for_cpu

OUT = Path(__file__).parent / "results" / "encoder.json"


def build(preset: str, image_size: int, frames: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Build transformers' encoder with random weights, and load ours from the file it writes."""
    width, depth, heads, ratio = PRESETS[preset]
    config = transformers.VJEPA2Config(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        mlp_ratio=ratio,
        crop_size=image_size,
        frames_per_clip=frames,
        attn_implementation="sdpa",
        pred_num_hidden_layers=1,
    )
    theirs = transformers.VJEPA2Model(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = load_published(folder, "encoder", image_size=image_size, num_frames=frames)
    return theirs, ours


@torch.no_grad()
def measure(
    runs: dict[str, Callable[[], torch.Tensor]], rounds: int
) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Return the median seconds of each run, with interleaved rounds after one warm-up."""
    outputs = {name: run().float() for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in tqdm(range(rounds), desc="rounds"):
        for name, run in list(runs.items())[:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}, outputs


def compare(preset: str, image_size: int, frames: int, rounds: int) -> dict[str, Any]:
    """Return seconds per clip of both encoders in float32 and bfloat16, and their difference."""
    theirs, ours = build(preset, image_size, frames)
    clip = torch.randn(1, 3, frames, image_size, image_size)
    video = clip.transpose(1, 2).contiguous()
    half_theirs = type(theirs)(theirs.config).eval()
    half_theirs.load_state_dict(theirs.state_dict())
    half_theirs = half_theirs.bfloat16()
    half_ours = type(ours)(ours.config).eval()
    half_ours.load_state_dict(ours.state_dict())
    half_ours = optimize_for_cpu(half_ours.bfloat16())

    def autocast() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return ours(clip)

    runs: dict[str, Callable[[], torch.Tensor]] = {
        "transformers float32": lambda: theirs(video, skip_predictor=True).last_hidden_state,
        "ours float32": lambda: ours(clip),
        "transformers bfloat16": lambda: (
            half_theirs(video.bfloat16(), skip_predictor=True).last_hidden_state
        ),
        "ours bfloat16": lambda: half_ours(clip.bfloat16()),
        "ours bfloat16 autocast": autocast,
    }
    seconds, outputs = measure(runs, rounds)
    want = outputs["transformers float32"]
    return {
        "preset": preset,
        "tokens": want.shape[1],
        "rounds": rounds,
        "median_seconds": seconds,
        "ratio_float32": seconds["transformers float32"] / seconds["ours float32"],
        "ratio_bfloat16": seconds["transformers bfloat16"] / seconds["ours bfloat16"],
        "ratio_bfloat16_to_their_float32": (
            seconds["transformers float32"] / seconds["ours bfloat16"]
        ),
        "max_difference_float32": float((outputs["ours float32"] - want).abs().max()),
        "relative_error_bfloat16": float((outputs["ours bfloat16"] - want).norm() / want.norm()),
    }


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presets", nargs="+", default=["vit_small"], choices=list(PRESETS))
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.manual_seed(0)
    found = []
    for name in options.presets:
        found.append(compare(name, options.image_size, options.frames, options.rounds))
        print(json.dumps(found[-1], indent=2))
    result = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "encoders": found,
    }
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(OUT)


if __name__ == "__main__":
    main()
