"""Judge encoders that were pretrained on made clips of moving shapes.

    python benchmarks/shapes_pretraining.py                    # two hours of one core; resumable
    python benchmarks/shapes_pretraining.py seeds=0,1,2        # three seeds of every objective
    python benchmarks/shapes_pretraining.py objectives=latent  # V-JEPA alone
    python benchmarks/shapes_pretraining.py extra="steps=5000 batch_size=16"  # shorter runs
    python benchmarks/shapes_pretraining.py only=page          # no training: the page alone

`worldmodel pretrain recipe=shapes` trains each encoder. Attentive probes, trained until they
improve no more, then read shape, direction, speed and position from the frozen features of clips
with textures and paths that no training has seen. An untrained encoder and raw pixels are judged in
the same way, with the same scaling. Results go to results/shapes_pretraining.json and
docs/pretraining.md.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from page_blocks import fill_blocks, markdown_table
from torch import Tensor

from worldmodel.checkpoints.loading import load_encoder
from worldmodel.data.moving_shapes import ShapeClips
from worldmodel.data.shape_options import LABELS, ShapeClipOptions
from worldmodel.evaluation.feature_health import effective_rank
from worldmodel.evaluation.shape_probe import (
    ProbeFit,
    fit_shape_probe,
    principal_components,
    scaled,
    score,
)
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.training.shape_objectives import patch_pixels

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULT = HERE / "results" / "shapes_pretraining.json"
PAGE = ROOT / "docs" / "pretraining.md"
SEEDS = {"train": 1_000_001, "test": 1_000_002}
"""Seeds of the clips that probes are trained and judged on; no pretraining uses them."""
TITLES = {
    "latent": "V-JEPA: masked prediction of latents",
    "pixels": "masked prediction of pixels",
    "labels": "supervised (the bound)",
    "untrained": "untrained encoder",
    "raw": "raw pixels, principal components",
}
READ = 128


def pretrain(out: Path, words: list[str]) -> float:
    """Run a pretraining to its end, if it has not ended before; return its processor seconds."""
    spent = out / "processor_s.json"
    if (out / "summary.json").is_file():
        return float(json.loads(spent.read_text("utf-8"))) if spent.is_file() else 0.0
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["pretrain", "recipe=shapes", *words, f"out={out}"]
    code = "import sys; from planning.cli.app import main; sys.exit(main())"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, *command], env=env, check=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    spent.write_text(json.dumps(seconds), encoding="utf-8")
    return seconds


def curve(out: Path) -> list[dict[str, float]]:
    """Return the validations of a run."""
    rows = [json.loads(x) for x in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [row for row in rows if "effective_rank" in row]


def clips_of(part: str, count: int) -> dict[str, np.ndarray]:
    """Return labelled clips of the recipe's size."""
    return ShapeClips(ShapeClipOptions(seed=SEEDS[part])).batch(np.arange(count))


def tokens_of(encoder: VideoEncoder, frames_BTHWC: np.ndarray) -> Tensor:
    """Return an encoder's frozen tokens of whole clips."""
    parts = torch.from_numpy(frames_BTHWC).split(READ)
    return torch.cat([encoder.encode_clip(part) for part in parts])


def judge(
    train: Tensor, test: Tensor, data: dict[str, Any], encoder: VideoEncoder
) -> dict[str, Any]:
    """Fit a probe on the training tokens and score it on the unseen clips."""
    c = encoder.backbone.config
    side = c.image_size[0] // c.patch_size
    grid = (c.num_frames // c.tubelet_size, side, side)
    seen, unseen = scaled(train, test, grid)
    labels = {
        part: {k: torch.from_numpy(v) for k, v in clips.items() if k != "frames"}
        for part, clips in data.items()
    }
    fitted = fit_shape_probe(seen, labels["train"], c.num_heads, ProbeFit())
    with torch.no_grad():
        outputs = [fitted.probe(part) for part in unseen.split(READ)]
    found = {name: torch.cat([output[name] for output in outputs]) for name in outputs[0]}
    row = score(found, labels["test"], c.image_size[0])
    rank = effective_rank(test)
    return row | {"rank": rank, "probe_steps": fitted.steps, "converged": fitted.converged}


def rows_of(options: dict[str, str], out: Path) -> dict[str, Any]:
    """Pretrain and judge what is missing; return the results."""
    data = {"train": clips_of("train", int(options["train"])), "test": clips_of("test", 1024)}
    result: dict[str, Any] = {
        "test_clips": 1024,
        "train_clips": int(options["train"]),
        "extra": options["extra"],
        "fit": asdict(ProbeFit()),
        "arms": {},
    }
    if RESULT.is_file():
        kept = json.loads(RESULT.read_text("utf-8"))
        same = [kept[key] == result[key] for key in ("train_clips", "extra")]
        result = kept if all(same) else result
    runs = [(o, s) for s in options["seeds"].split(",") for o in options["objectives"].split(",")]
    for objective, seed in [("untrained", "0"), ("raw", "0"), *runs]:
        name = f"{objective}-{seed}"
        if name in result["arms"]:
            continue
        is_run = objective in ("latent", "pixels", "labels")
        folder = out / (name if is_run else "untrained-0")
        words = ["steps=0", "seed=0"]
        if is_run:
            words = [f"seed={seed}", f"objective={objective}", *options["extra"].split()]
        seconds = pretrain(folder, words)
        encoder = load_encoder(folder, "cpu")
        assert isinstance(encoder, VideoEncoder)
        if objective == "raw":
            sizes = encoder.backbone.config
            pixels = [
                patch_pixels(
                    encoder.clip_pixels(torch.from_numpy(data[part]["frames"])),
                    sizes.tubelet_size,
                    sizes.patch_size,
                )
                for part in ("train", "test")
            ]
            tokens = principal_components(pixels[0], pixels[1], sizes.embed_dim)
        else:
            tokens = (
                tokens_of(encoder, data["train"]["frames"]),
                tokens_of(encoder, data["test"]["frames"]),
            )
        row = {"objective": objective, "seed": int(seed), "processor_s": round(seconds)}
        row |= judge(*tokens, data, encoder)
        if is_run:
            row["curve"] = curve(folder)
            loop = json.loads((folder / "summary.json").read_text("utf-8"))["options"]["loop"]
            row |= {"steps": loop["steps"], "batch_size": loop["batch_size"]}
        result["arms"][name] = row
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(name, {k: v for k, v in row.items() if k != "curve"}, flush=True)
    return result


def judged_table(result: dict[str, Any]) -> str:
    """Format one row per judged encoder."""
    head = ["frozen features", "seed", "steps x clips", "processor min"]
    head += [f"{name} (of {len(classes)})" for name, classes in LABELS.items()]
    clips, rows = result["test_clips"], []
    order = list(TITLES)
    for row in sorted(
        result["arms"].values(), key=lambda r: (order.index(r["objective"]), r["seed"])
    ):
        counts = [f"{round(row[name] * clips):,}" for name in LABELS]
        length, minutes = "0", "0"
        if "steps" in row:
            length, minutes = (
                f"{row['steps']:,} x {row['batch_size']}",
                f"{row['processor_s'] / 60:.0f}",
            )
        cells = [TITLES[row["objective"]], row["seed"], length, minutes]
        rows.append([*cells, *counts, f"{row['position_px']:.2f} px", f"{row['rank']:.0f}"])
    return markdown_table([*head, "position", "rank"], rows)


def curve_table(result: dict[str, Any]) -> str:
    """Format the validations of the first run of V-JEPA."""
    head = ["step", "masked loss", "the mean's loss", "rank: student", "rank: average"]
    head += ["colour's share", *(f"{name}, linear" for name in LABELS)]
    rows = [
        [
            f"{int(r['step']):,}",
            f"{r['val_loss']:.3f}",
            f"{r['val_mean']:.3f}",
            f"{r['effective_rank_student']:.1f}",
            f"{r['effective_rank']:.1f}",
            f"{r['colour_share']:.2f}",
            *(f"{100 * r['probe_' + name]:.0f} %" for name in LABELS),
        ]
        for r in result["arms"].get("latent-0", {"curve": []})["curve"]
    ]
    return markdown_table(head, rows)


def write_page(result: dict[str, Any]) -> None:
    """Fill the blocks of the page."""
    fill_blocks(PAGE, {"shapes": judged_table(result), "shape_curve": curve_table(result)})


def main() -> None:
    """Run what is missing, then write the results and the page."""
    options = {
        "out": "runs/shapes_compared",
        "seeds": "0",
        "objectives": "latent,pixels,labels",
        "train": "3072",
        "extra": "",
        "only": "",
    }
    for word in sys.argv[1:]:
        key, _, value = word.partition("=")
        if key not in options:
            raise SystemExit(f"unknown option {key!r}; known: {', '.join(options)}")
        options[key] = value
    torch.set_num_threads(1)
    if options["only"] == "page":
        write_page(json.loads(RESULT.read_text("utf-8")))
    else:
        write_page(rows_of(options, Path(options["out"]).resolve()))
    print(PAGE)


if __name__ == "__main__":
    main()
