"""Maximum differences from the arrays of published modules, and from transformers' models.

Golden arrays were computed by the published modules with random weights; this script recomputes
them with models loaded from the published layouts. Transformers' model is built at several sizes
with random weights and loaded from the file it writes.

    python benchmarks/agreement.py                       # tests/golden and transformers
    python benchmarks/agreement.py golden=DIR out=FILE   # any folder of one of these layouts
    python benchmarks/agreement.py device=cuda precision=bfloat16 out=FILE  # tests/golden alone

`precision` is float32 (the default, without TensorFloat-32), tf32 or bfloat16 weights. Allowed are
2e-5 in float32, and for the others a share of each array's norm.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from agreement_golden import Family, Golden, Pairs
from torch import Tensor

from worldmodel.checkpoint import load_published

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "tests" / "golden"
OUT = HERE / "results" / "agreement.json"
ALLOWED = 2e-5
ALLOWED_SHARE = {"tf32": 5e-3, "bfloat16": 3e-2}
"""Maximum norm of a difference as a share of the array's norm, in the other precisions."""
KNOWN = "golden=DIR, out=FILE, device=cpu|cuda, precision=float32|tf32|bfloat16"
DIFFERENCES = ("largest", "share")
FAILURES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Errors of a family on files of another kind, such as a size that is text."""
Rows = dict[str, dict[str, float]]
"""Array -> its maximum difference, and the norm of the difference as a share of the norm."""
WIDTHS = ((96, 2, 3, 64), (192, 3, 4, 96), (384, 6, 4, 112), (768, 12, 3, 128), (1408, 22, 2, 64))
"""Width, heads, depth and pixels of transformers' models."""


def modules() -> list[Any]:
    """Import the scripts that define families."""
    names = sorted(p.stem for p in HERE.glob("agreement_*.py"))
    return [m for m in map(importlib.import_module, names) if hasattr(m, "FAMILIES")]


def against_transformers() -> Pairs:
    """Yield the outputs of encoder and masked predictor at several sizes."""
    import transformers

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


def difference(found: Tensor, wanted: Tensor) -> dict[str, float]:
    """Return the maximum difference of two arrays, and its norm's share of the wanted norm.

    Raises:
        ValueError: The shapes differ, or a number is not finite.
    """
    if found.shape != wanted.shape:
        raise ValueError(f"shape {tuple(found.shape)} instead of {tuple(wanted.shape)}")
    found, wanted = found.detach().cpu().double(), wanted.detach().cpu().double()
    for name, array in (("golden", wanted), ("computed", found)):
        if not array.isfinite().all():
            raise ValueError(f"the {name} array has numbers that are not finite")
    gap = found - wanted
    largest = float(gap.abs().max()) if found.numel() else 0.0
    return {"largest": largest, "share": float(gap.norm() / wanted.norm().clamp_min(1e-12))}


def of_family(golden: Golden, family: Family, found: dict[str, Any]) -> Rows:
    """Compute the arrays of a family.

    Failures, and where the family had to stop, are recorded in `found`, as are the names of
    arrays that the folder lacks.
    """
    rows: Rows = {}
    name = ""
    try:
        for name, computed, wanted in family(golden):
            if wanted is None:
                if name not in golden.unreadable:
                    found["absent"].append(name)
                continue
            try:
                rows[name] = difference(torch.as_tensor(computed), torch.as_tensor(wanted))
            except ValueError as error:
                found["failed"][name] = str(error)
    except FAILURES as error:
        text = f"{'' if isinstance(error, ValueError) else type(error).__name__ + ': '}{error}"
        place = f"after {name}" if name else "at its start"
        found["failed"][f"{family.__module__}.{family.__name__}"] = f"{place}: {text}"
    return rows


def of_folder(folder: Path, device: str = "cpu", *, low: bool = False) -> dict[str, Any]:
    """Compute every array of a folder that a family covers.

    Returns:
        `arrays`: name -> differences; `not_computed`: names of results that no family
        computes, or that a family did not reach; `absent`: names of arrays that the folder lacks;
        `failed`: array, file or family -> error. Arrays of golden21.npz are named golden21/NAME.
    """
    found: dict[str, Any] = {"arrays": {}, "not_computed": [], "absent": [], "failed": {}}
    loaded = modules()
    inputs = [pattern for m in loaded for pattern in m.INPUTS]
    stems = sorted({stem for m in loaded for stem, _ in m.FAMILIES})
    for stem in [stem for stem in stems if (folder / f"{stem}.npz").is_file()]:
        golden = Golden(folder, stem, device, low)
        prefix = "golden21/" if stem == "golden21" else ""
        part: dict[str, Any] = {"absent": [], "failed": dict(golden.unreadable)}
        rows: Rows = {}
        for family in [family for m in loaded for of, family in m.FAMILIES if of == stem]:
            rows |= of_family(golden, family, part) if golden.arrays else {}
        left = golden.arrays.keys() - rows.keys() - part["failed"].keys()
        found["arrays"] |= {prefix + name: value for name, value in rows.items()}
        found["failed"] |= {prefix + name: text for name, text in part["failed"].items()}
        found["absent"] += sorted(prefix + name for name in part["absent"])
        found["not_computed"] += sorted(
            prefix + n for n in left if not any(fnmatch(n, p) for p in inputs)
        )
    return found


def read_options(words: list[str]) -> dict[str, str]:
    """Return the options with their defaults.

    Raises:
        SystemExit: An option or a value is unknown.
    """
    options = {"device": "cpu", "precision": "float32"}
    given = {key: value for key, _, value in (word.partition("=") for word in words)}
    if unknown := given.keys() - {"golden", "out", *options}:
        raise SystemExit(f"unknown options {sorted(unknown)}; known: {KNOWN}")
    options |= given
    if options["precision"] not in ("float32", *ALLOWED_SHARE):
        raise SystemExit(f"precision={options['precision']} is unknown; known: {KNOWN}")
    if "golden" in options and not Path(options["golden"]).is_dir():
        raise SystemExit(f"golden={options['golden']} is not a folder")
    if "golden" in options and not any(Path(options["golden"]).glob("golden*.npz")):
        raise SystemExit(
            f"golden={options['golden']} has none of golden.npz, golden21.npz, "
            "golden_perception.npz"
        )
    return options


@torch.no_grad()
def main(words: list[str]) -> None:
    """Compare, print and write the results; exit with 1 if a difference is too large.

    Args:
        words: `golden=DIR`, `out=FILE`, `device=` and `precision=`; without `golden`, the arrays of
            the tests, and transformers for float32 on the CPU.
    """
    options = read_options(words)
    device, precision = options["device"], options["precision"]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    given = options.get("golden")
    folders = [Path(given)] if given else [GOLDEN, *(f for f in GOLDEN.iterdir() if f.is_dir())]
    found: dict[str, Any] = {"arrays": {}, "not_computed": [], "absent": [], "failed": {}}
    for folder in folders:
        part = of_folder(folder, device, low=precision == "bfloat16")
        print_largest(str(folder), part["arrays"])
        found["arrays"] |= part["arrays"]
        found["not_computed"] += part["not_computed"]
        found["absent"] += part["absent"]
        found["failed"] |= part["failed"]
    if not given and (device, precision) == ("cpu", "float32"):
        pairs = against_transformers()
        found["arrays"] |= {name: difference(ours, theirs) for name, ours, theirs in pairs}
    report(found, precision, Path(options.get("out", OUT)))


def print_largest(title: str, rows: Rows) -> None:
    """Print the largest differences of a folder."""
    for key in DIFFERENCES:
        name = max(rows, key=lambda n: rows[n][key], default="")
        if name:
            print(f"{title}: {key} {rows[name][key]:.2e} ({name})")


def report(found: dict[str, Any], precision: str, out: Path) -> None:
    """Print and write the results; exit with 1 if a difference is too large."""
    rows: Rows = found["arrays"]
    for name, row in rows.items():
        print(f"{name:48s} {row['largest']:.2e} {row['share']:.2e}")
    for key in ("not_computed", "absent"):
        if found[key]:
            print(f"{key}: {', '.join(found[key])}")
    for name, text in found["failed"].items():
        print(f"failed: {name}: {text}")
    key = "share" if precision in ALLOWED_SHARE else "largest"
    allowed = ALLOWED_SHARE.get(precision, ALLOWED)
    worst = {key: max((row[key] for row in rows.values()), default=0.0) for key in DIFFERENCES}
    print(f"{len(rows)} arrays in {precision}: {key} {worst[key]:.2e}, allowed {allowed:.0e}")
    arrays = {name: row["largest"] for name, row in rows.items()}
    result = {"largest": worst["largest"], **found, "arrays": arrays}
    if key == "share":
        result |= {"share": worst["share"], "shares": {n: row["share"] for n, row in rows.items()}}
    result |= {"precision": precision, "torch": torch.__version__}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if worst[key] > allowed or found["failed"] or not rows:
        raise SystemExit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
