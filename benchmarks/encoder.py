"""Encoder throughput on this CPU beside transformers' VJEPA2Model on the same weights.

Rounds alternate between the models, so that other work on the machine hits all of them alike; the
figures are medians and their ratios in this one run.

    python benchmarks/encoder.py [--preset vit_small] [--frames 16] [--image-size 224]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from tqdm import tqdm

from worldmodel.checkpoint import load_published
from worldmodel.models.encoder import PRESETS

OUT = Path(__file__).parent / "results" / "encoder.json"


def build(preset: str, image_size: int, frames: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Transformers' encoder with random weights, and ours loaded from the file it writes."""
    width, depth, heads, ratio = PRESETS[preset]
    config = transformers.VJEPA2Config(
        hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, mlp_ratio=ratio,
        crop_size=image_size, frames_per_clip=frames, attn_implementation="sdpa",
        pred_num_hidden_layers=1,
    )  # fmt: skip
    theirs = transformers.VJEPA2Model(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = load_published(folder, "encoder", image_size=image_size, num_frames=frames)
    return theirs, ours


@torch.no_grad()
def measure(
    runs: dict[str, Callable[[], torch.Tensor]], rounds: int
) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Median seconds of each run, rounds interleaved after one warm-up."""
    outputs = {name: run().float() for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in tqdm(range(rounds), desc="rounds"):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}, outputs


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="vit_small", choices=list(PRESETS))
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.manual_seed(0)
    theirs, ours = build(options.preset, options.image_size, options.frames)
    clip = torch.randn(1, 3, options.frames, options.image_size, options.image_size)
    video = clip.transpose(1, 2).contiguous()
    half_theirs = type(theirs)(theirs.config).eval()
    half_theirs.load_state_dict(theirs.state_dict())
    half_theirs = half_theirs.bfloat16()
    half_ours = type(ours)(ours.config).eval()
    half_ours.load_state_dict(ours.state_dict())
    half_ours = half_ours.bfloat16()

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
    seconds, outputs = measure(runs, options.rounds)
    want = outputs["transformers float32"]
    result = {
        "preset": options.preset,
        "tokens": want.shape[1],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "rounds": options.rounds,
        "median_seconds": seconds,
        "ratio_float32": seconds["transformers float32"] / seconds["ours float32"],
        "ratio_bfloat16": seconds["transformers bfloat16"] / seconds["ours bfloat16"],
        "ratio_bfloat16_to_their_float32": (
            seconds["transformers float32"] / seconds["ours bfloat16"]
        ),
        "max_difference_float32": float((outputs["ours float32"] - want).abs().max()),
        "relative_error_bfloat16": float((outputs["ours bfloat16"] - want).norm() / want.norm()),
    }
    for name, value in seconds.items():
        print(f"{name:24s} {value:8.3f} s a clip")
    for name, value in result.items():
        if name.startswith(("ratio", "max", "relative")):
            print(f"{name:34s} {value:.3g}")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(OUT)


if __name__ == "__main__":
    main()
