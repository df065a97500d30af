"""Measure encoder throughput: frames per second and the share of the matrix products' peak.

    python benchmarks/gpu_encoder.py [--device cuda] [--presets vit_large vit_giant] [--out FILE]

Each frame alone is what planning and post-training encode; clips are what probes and features
encode. Weights are random. Every row is written to FILE as soon as it is measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any, Literal

import torch

from planning.apps.bench_planning import device_name, matmul_peak
from planning.device_clock import clock
from worldmodel.atomic_io import write_json
from worldmodel.checkpoints.loading import load_encoder
from worldmodel.models.config import EncoderConfig
from worldmodel.models.kernels.compiled_blocks import END, START

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def encoder_flops(config: EncoderConfig, tokens: int) -> float:
    """Return the FLOPs of encoding one sequence of tokens, two per multiply-add."""
    width = config.embed_dim
    patch = 3 * config.patch_size**2 * config.tubelet_size
    block = 4 * width**2 + 2 * width * int(width * config.mlp_ratio) + 2 * tokens * width
    return 2.0 * tokens * (config.depth * block + patch * width)


def measure(
    preset: str,
    precision: str,
    frames: int,
    batch: int,
    device: str,
    rounds: int,
    *,
    compiled: bool = False,
) -> dict[str, Any]:
    """Return frames per second of one encoder: single frames, or clips of `frames` frames."""
    side = 256
    encoder = load_encoder(f"random:{preset}", device, precision, image_size=side)  # type: ignore[arg-type]
    pixels = torch.randint(0, 256, (batch, frames, side, side, 3), dtype=torch.uint8, device=device)
    single = frames == 1

    which: Literal["plain", "fast"] = "fast" if compiled else "plain"

    @torch.inference_mode()
    def run() -> torch.Tensor:
        with START.use(which), END.use(which):
            return encoder.encode(pixels[:, 0]) if single else encoder.encode_clip(pixels)

    run()  # compiles, and chooses kernels
    tokens = run().shape[1]
    seconds = []
    for _ in range(rounds):
        began = clock(device)
        run()
        seconds.append(clock(device) - began)
    took = statistics.median(seconds)
    flops = batch * encoder_flops(encoder.config.encoder, tokens)
    peak = matmul_peak(PRECISIONS[precision], device)
    return {
        "preset": preset,
        "precision": precision + (", compiled" if compiled else ""),
        "input": "frames" if single else f"clips of {frames}",
        "batch": batch,
        "tokens": tokens,
        "frames_per_s": batch * frames / took,
        "tflops": flops / took / 1e12,
        "share_of_peak": flops / took / peak,
    }


def main() -> None:
    """Measure every preset, precision and input; print and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--presets", nargs="+", default=["vit_large", "vit_giant"])
    parser.add_argument("--frames", type=int, default=16, help="frames of a clip")
    parser.add_argument("--batch", type=int, default=64, help="frames encoded at once")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu/encoder.json"))
    options = parser.parse_args()
    result: dict[str, Any] = {"device": device_name(options.device), "torch": torch.__version__}
    result["rows"] = []
    clips = max(1, options.batch // options.frames)
    for preset in options.presets:
        for precision in PRECISIONS:
            for frames, batch in ((1, options.batch), (options.frames, clips)):
                for compiled in (False, True) if precision == "bfloat16" else (False,):
                    given = frames, batch, options.device, options.rounds
                    try:
                        row = measure(preset, precision, *given, compiled=compiled)
                    except RuntimeError as error:  # compilation, or memory: measure the others
                        print(f"{preset} {precision} compiled={compiled}: {error}", flush=True)
                        continue
                    result["rows"].append(row)
                    print(json.dumps(row), flush=True)
                    write_json(options.out, result)


if __name__ == "__main__":
    main()
