"""Largest differences from the arrays of published modules, and from transformers' models.

Golden arrays were computed by the published modules with random weights; this script recomputes
them with models loaded from the published layouts. Transformers' model is built at several sizes
with random weights and loaded from the file it writes.

    python benchmarks/agreement.py                       # tests/golden and transformers
    python benchmarks/agreement.py golden=DIR out=FILE   # any folder of one of these layouts
"""

from __future__ import annotations

import importlib
import json
import math
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
import transformers
from agreement_golden import Family, Golden, Pairs
from torch import Tensor

from worldmodel.checkpoint import load_published

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "tests" / "golden"
OUT = HERE / "results" / "agreement.json"
ALLOWED = 2e-5
WIDTHS = ((96, 2, 3, 64), (192, 3, 4, 96), (384, 6, 4, 112), (768, 12, 3, 128), (1408, 22, 2, 64))
"""Width, heads, depth and pixels of transformers' models."""


def modules() -> list[Any]:
    """Import the scripts that define families."""
    names = sorted(p.stem for p in HERE.glob("agreement_*.py"))
    return [m for m in map(importlib.import_module, names) if hasattr(m, "FAMILIES")]


def against_transformers() -> Pairs:
    """Yield the outputs of encoder and masked predictor at several sizes."""
    for width, heads, depth, side in WIDTHS:
        torch.manual_seed(width)
        config = transformers.VJEPA2Config(
            hidden_size=width,
            num_attention_heads=heads,
            num_hidden_layers=depth,
            crop_size=side,
            frames_per_clip=8,
            attn_implementation="sdpa",
            pred_num_hidden_layers=2,
        )
        theirs = transformers.VJEPA2Model(config).eval()
        clip, count = torch.randn(2, 3, 8, side, side), 4 * (side // 16) ** 2
        order = torch.stack([torch.randperm(count) for _ in range(2)])
        seen, hidden = order[:, : count // 2].sort().values, order[:, count // 2 :].sort().values
        want = theirs(clip.transpose(1, 2), context_mask=[seen], target_mask=[hidden])
        with tempfile.TemporaryDirectory() as folder:
            theirs.save_pretrained(folder)
            encoder = load_published(folder, "encoder", image_size=side, num_frames=8)
            predictor = load_published(folder, "predictor", image_size=side, num_frames=8)
        tokens = encoder(clip)
        yield f"transformers, width {width}, encoder", tokens, want.last_hidden_state
        context = tokens.gather(1, seen[..., None].expand(-1, -1, width))
        out = predictor(context, seen, hidden, 1)
        wanted = want.predictor_output.last_hidden_state
        yield f"transformers, width {width}, predictor", out, wanted


def difference(found: Tensor, wanted: Tensor) -> float:
    """Return the maximum absolute difference of two arrays.

    Raises:
        ValueError: The shapes differ, or a number is not finite.
    """
    if found.shape != wanted.shape:
        raise ValueError(f"shape {tuple(found.shape)} instead of {tuple(wanted.shape)}")
    gap = float((found.double() - wanted.double()).abs().max()) if found.numel() else 0.0
    if not math.isfinite(gap):
        raise ValueError("the computed array has numbers that are not finite")
    return gap


def of_family(golden: Golden, family: Family, failed: dict[str, str]) -> dict[str, float]:
    """Compute the arrays of a family; record failures, and where the family had to stop."""
    rows: dict[str, float] = {}
    name = "its first array"
    try:
        for name, found, wanted in family(golden):
            try:
                rows[name] = difference(torch.as_tensor(found), torch.as_tensor(wanted))
            except ValueError as error:
                failed[name] = str(error)
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        failed[family.__name__] = f"after {name}: {type(error).__name__}: {error}"
    return rows


def of_folder(folder: Path) -> dict[str, Any]:
    """Compute every array of a folder that a family covers.

    Returns:
        `arrays`: name -> maximum difference; `not_computed`: names of results that no family
        computes; `failed`: array or family -> error. Arrays of golden21.npz are named
        golden21/NAME.
    """
    arrays: dict[str, float] = {}
    failed: dict[str, str] = {}
    missing: list[str] = []
    loaded = modules()
    inputs = [pattern for m in loaded for pattern in m.INPUTS]
    for stem in sorted({stem for m in loaded for stem, _ in m.FAMILIES}):
        if not (folder / f"{stem}.npz").is_file():
            continue
        golden, prefix = Golden(folder, stem), "golden21/" if stem == "golden21" else ""
        families = [family for m in loaded for of, family in m.FAMILIES if of == stem]
        rows: dict[str, float] = {}
        for family in families:
            rows |= of_family(golden, family, failed)
        arrays |= {prefix + name: value for name, value in rows.items()}
        left = golden.arrays.keys() - rows.keys()
        missing += [prefix + n for n in left if not any(fnmatch(n, p) for p in inputs)]
    return {"arrays": arrays, "not_computed": sorted(missing), "failed": failed}


@torch.no_grad()
def main(words: list[str]) -> None:
    """Compare, print and write the results; exit with 1 if a difference is too large.

    Args:
        words: `golden=DIR` and `out=FILE`; without `golden`, the arrays of the tests and
            transformers.
    """
    options = dict(word.split("=", 1) for word in words)
    if unknown := options.keys() - {"golden", "out"}:
        raise SystemExit(f"unknown options {sorted(unknown)}; known: golden=DIR, out=FILE")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if "golden" in options:
        folder = Path(options["golden"])
        if not folder.is_dir():
            raise SystemExit(f"golden={folder} is not a folder")
        found = of_folder(folder)
    else:
        found = of_folder(GOLDEN)
        if (GOLDEN / "perception").is_dir():
            rest = of_folder(GOLDEN / "perception")
            found = {
                "arrays": found["arrays"] | rest["arrays"],
                "not_computed": found["not_computed"] + rest["not_computed"],
                "failed": found["failed"] | rest["failed"],
            }
        pairs = against_transformers()
        found["arrays"] |= {name: difference(ours, theirs) for name, ours, theirs in pairs}
    report(found, Path(options.get("out", OUT)))


def report(found: dict[str, Any], out: Path) -> None:
    """Print and write the results; exit with 1 if a difference is too large."""
    for name, gap in found["arrays"].items():
        print(f"{name:48s} {gap:.2e}")
    for key in ("not_computed", "failed"):
        if found[key]:
            print(f"{key}: {found[key]}")
    worst = max(found["arrays"].values(), default=0.0)
    print(f"{len(found['arrays'])} arrays, largest {worst:.2e}, allowed {ALLOWED:.0e}")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"largest": worst, **found}, indent=1) + "\n", encoding="utf-8")
    if worst > ALLOWED or found["failed"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
