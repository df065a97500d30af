"""Measure the peak memory of loading a ViT-g-sized V-JEPA 2 file, and the size of its tensors.

Writes a file with constant weights in both published layouts: a torch file with encoder and target
encoder, and Hugging Face's safetensors, whose queries, keys and values are fused on loading. Loads
the encoder in a new process, touches every weight, and reads that process's peak memory.

    python benchmarks/loading.py [--preset vit_giant]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

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
model = load_published(sys.argv[1], sys.argv[2])
loaded = time.perf_counter() - start
kept = sum(p.numel() * p.element_size() for p in model.state_dict().values())
total = sum(float(p.sum()) for p in model.state_dict().values())
print(json.dumps({"before": before, "peak": peak(), "kept": kept, "seconds": loaded}))
"""


HUGGING_FACE = (
    ("patch_embed.", "embeddings.patch_embeddings."),
    ("blocks.", "layer."),
    (".attn.proj.", ".attention.proj."),
    (".attn.qkv.", ".attention.qkv."),
)
"""Our names -> those of Hugging Face; the encoder's last norm is `layernorm`."""


def shapes_of(name: str) -> dict[str, torch.Size]:
    """Return the shapes of a preset's encoder by name."""
    with torch.device("meta"):
        return {k: v.shape for k, v in VisionTransformer(preset(name)).state_dict().items()}


def write_torch(name: str, folder: Path) -> tuple[Path, str]:
    """Write a torch file whose two parts hold separate tensors."""
    content = {
        part: {f"module.backbone.{k}": torch.full(s, 0.01) for k, s in shapes_of(name).items()}
        for part in ("encoder", "target_encoder")
    }
    torch.save({**content, "epoch": 1, "lr": 1e-4}, folder / "vitg.pt")
    return folder / "vitg.pt", "target_encoder"


def write_huggingface(name: str, folder: Path) -> tuple[Path, str]:
    """Write a folder of Hugging Face's layout."""
    tensors = {}
    for key, (rows, *rest) in shapes_of(name).items():
        theirs = key.replace("norm.", "layernorm.") if key.startswith("norm.") else key
        for ours, other in HUGGING_FACE:
            theirs = theirs.replace(ours, other)
        parts = ("query", "key", "value") if ".qkv." in theirs else ("qkv",)
        for part in parts:
            shape = (rows // len(parts), *rest)
            tensors[f"encoder.{theirs.replace('qkv', part)}"] = torch.full(shape, 0.01)
    save_file(tensors, folder / "model.safetensors")
    return folder, "encoder"


def measure(name: str, write: Callable[[str, Path], tuple[Path, str]]) -> dict[str, float]:
    """Write a file, load it in a new process, and return the results."""
    with tempfile.TemporaryDirectory() as folder:
        path, part = write(name, Path(folder))
        size = sum(p.stat().st_size for p in Path(folder).iterdir())
        command = [sys.executable, "-c", CHILD, str(path), part]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(answer.stdout)
    return {
        "file_bytes": size,
        "kept_bytes": found["kept"],
        "peak_rss_bytes": found["peak"],
        "rss_before_bytes": found["before"],
        "peak_over_kept": found["peak"] / found["kept"],
        "load_seconds": found["seconds"],
    }


def main() -> None:
    """Measure both layouts, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="vit_giant", choices=list(PRESETS))
    options = parser.parse_args()
    result = {
        "preset": options.preset,
        "torch": measure(options.preset, write_torch),
        "huggingface": measure(options.preset, write_huggingface),
    }
    print(json.dumps(result, indent=2))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
