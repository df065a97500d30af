"""Peak memory while a ViT-g-sized V-JEPA 2 file is loaded, beside the size of the tensors kept.

Writes a file with random weights in the published layout (encoder and target encoder), loads the
target encoder in a fresh process, touches every weight, and reads that process's peak.

    python benchmarks/loading.py [--preset vit_giant]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from worldmodel.models.encoder import PRESETS, VisionTransformer, preset

OUT = Path(__file__).parent / "results" / "loading.json"
CHILD = """
import json, pathlib, re, sys, time
import torch
from worldmodel.checkpoint import load_published
def peak():  # of this program alone: ru_maxrss would count what started it
    text = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", text)[1])
before, start = peak(), time.perf_counter()
model = load_published(sys.argv[1], "target_encoder")
loaded = time.perf_counter() - start
kept = sum(p.numel() * p.element_size() for p in model.state_dict().values())
total = sum(float(p.sum()) for p in model.state_dict().values())
print(json.dumps({"before": before, "peak": peak(), "kept": kept, "seconds": loaded}))
"""


def generate(name: str, path: Path) -> None:
    """Write a published-layout file; both parts hold tensors of their own."""
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in VisionTransformer(preset(name)).state_dict().items()}
    content = {
        part: {f"module.backbone.{k}": torch.full(s, 0.01) for k, s in shapes.items()}
        for part in ("encoder", "target_encoder")
    }
    torch.save({**content, "epoch": 1, "lr": 1e-4}, path)


def main() -> None:
    """Generate, load in a fresh process, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="vit_giant", choices=list(PRESETS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vitg.pt"
        generate(options.preset, path)
        size = path.stat().st_size
        answer = subprocess.run(
            [sys.executable, "-c", CHILD, str(path)], check=True, capture_output=True, text=True
        )
    found = json.loads(answer.stdout)
    result = {
        "preset": options.preset,
        "file_bytes": size,
        "kept_bytes": found["kept"],
        "peak_rss_bytes": found["peak"],
        "rss_before_bytes": found["before"],
        "peak_over_kept": found["peak"] / found["kept"],
        "load_seconds": found["seconds"],
    }
    print(json.dumps(result, indent=2))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
