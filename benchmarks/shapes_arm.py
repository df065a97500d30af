"""Pretrain one encoder on made clips and judge it: a job of shapes_pretraining.py.

    python benchmarks/shapes_arm.py NAME OUT DEVICE TRAIN_CLIPS SNAPSHOTS WORD...

NAME is ARM-SEED, for example latent-0. The training stops at each of SNAPSHOTS (shares of its
steps, with commas) and at its end, keeps the encoder as at-STEP.safetensors, judges it by attentive
probes, and resumes. OUT/NAME/judged.json has the figures. What is done is not done again.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from planning.cli.app import compose_options, main
from worldmodel.atomic_io import write_json
from worldmodel.checkpoints.loading import load_encoder
from worldmodel.data.moving_shapes import ShapeClips
from worldmodel.data.shape_options import ShapeClipOptions
from worldmodel.evaluation.feature_health import effective_rank
from worldmodel.evaluation.shape_probe import (
    SCALINGS,
    ProbeFit,
    fit_shape_probe,
    principal_components,
    scaled,
    score,
)
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.training.config import ShapesPretrainOptions
from worldmodel.training.shape_objectives import patch_pixels

SEEDS = {"train": 1_000_001, "test": 1_000_002}
"""Seeds of the clips that probes are trained and judged on; no pretraining uses them."""
TEST_CLIPS = 1024
READ = 128
Clips = dict[str, dict[str, np.ndarray]]
"""`train` and `test` -> labelled clips."""


@dataclass(frozen=True)
class Arm:
    """A pretraining to judge."""

    name: str
    out: Path
    device: str
    train_clips: int
    snapshots: tuple[float, ...]
    words: tuple[str, ...]

    @property
    def options(self) -> ShapesPretrainOptions:
        """Return the options of the whole run."""
        found = compose_options("pretrain", self.command(0)[1:])
        assert isinstance(found, ShapesPretrainOptions)
        return found

    def command(self, stop_after: int) -> list[str]:
        """Return the command that trains up to a step (0: to the end)."""
        own = [f"device={self.device}", f"out={self.out / 'run'}", f"stop_after={stop_after}"]
        return ["pretrain", "recipe=shapes", *self.words, *own]


def kept(folder: Path, step: int) -> Path:
    """Return the file of the encoder of a step."""
    return folder / f"at-{step}.safetensors"


def read_json(path: Path) -> dict[str, Any]:
    """Return a file's object; an empty one if there is no file."""
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def pretrain(arm: Arm, stop: int) -> dict[str, float]:
    """Train up to a step and keep the encoder; return the seconds of training so far."""
    spent = read_json(arm.out / "spent.json") or {"processor_s": 0.0, "wall_s": 0.0}
    if kept(arm.out, stop).is_file():
        return spent
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    status = main(arm.command(stop))
    if status:
        raise SystemExit(status)
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent["processor_s"] += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    spent["wall_s"] += time.perf_counter() - began
    write_json(arm.out / "spent.json", spent)
    shutil.copy(arm.out / "run" / "encoder.safetensors", kept(arm.out, stop))
    return spent


def curve(out: Path) -> list[dict[str, float]]:
    """Return the validations of a run."""
    rows = [json.loads(x) for x in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [row for row in rows if "effective_rank" in row]


def clips_for(options: ShapesPretrainOptions, train_clips: int) -> Clips:
    """Return labelled clips of the run's size."""
    counts = {"train": train_clips, "test": TEST_CLIPS}
    sizes = {"num_frames": options.clips.num_frames, "side": options.encoder.image_size}
    return {
        part: ShapeClips(ShapeClipOptions(seed=SEEDS[part], **sizes)).batch(np.arange(count))
        for part, count in counts.items()
    }


def tokens_of(encoder: VideoEncoder, clips: Clips) -> list[Tensor]:
    """Return an encoder's frozen tokens of the training and of the unseen clips."""
    found = []
    for part in ("train", "test"):
        frames = torch.from_numpy(clips[part]["frames"]).split(READ)
        found.append(torch.cat([encoder.encode_clip(part) for part in frames]).float())
    return found


def pixels_of(encoder: VideoEncoder, clips: Clips) -> list[Tensor]:
    """Return as many principal components of each token's pixels as the encoder is wide."""
    sizes, found = encoder.backbone.config, []
    for part in ("train", "test"):
        clip_BCTHW = encoder.clip_pixels(torch.from_numpy(clips[part]["frames"]))
        found.append(patch_pixels(clip_BCTHW, sizes.tubelet_size, sizes.patch_size))
    return list(principal_components(found[0], found[1], sizes.embed_dim))


def judge(path: Path, clips: Clips, device: str, *, raw: bool = False) -> dict[str, Any]:
    """Fit probes on an encoder's tokens of the training clips and score one on the unseen ones.

    Tokens are read with each of `SCALINGS`; right classes of held-out training clips choose.

    Args:
        path: The encoder's file.
        clips: What `clips_for` returns.
        device: Device of encoder and probe.
        raw: Judge the pixels instead of the encoder's tokens.
    """
    encoder = load_encoder(path, device, "float32")
    assert isinstance(encoder, VideoEncoder)
    c = encoder.backbone.config
    side = c.image_size[0] // c.patch_size
    grid = (c.num_frames // c.tubelet_size, side, side)
    train, test = (pixels_of if raw else tokens_of)(encoder, clips)
    labels = {
        part: {k: torch.from_numpy(v).to(train.device) for k, v in found.items() if k != "frames"}
        for part, found in clips.items()
    }
    rows = []
    for scaling in SCALINGS:
        seen, unseen = scaled(train, test, grid, scaling)
        fitted = fit_shape_probe(seen, labels["train"], c.num_heads, ProbeFit())
        with torch.no_grad():
            outputs = [fitted.probe(part) for part in unseen.split(READ)]
        found = {name: torch.cat([output[name] for output in outputs]) for name in outputs[0]}
        row: dict[str, Any] = score(found, labels["test"], c.image_size[0])
        rows.append(row | {"scaling": scaling, "held_out_right": fitted.held_out_right})
    best = max(rows, key=lambda row: row["held_out_right"])
    return best | {"rank": effective_rank(test.cpu()), "both_scalings": rows}


def run(arm: Arm) -> None:
    """Train and judge what is not done yet."""
    torch.set_num_threads(1)
    arm.out.mkdir(parents=True, exist_ok=True)
    result, file = read_json(arm.out / "judged.json"), arm.out / "judged.json"
    options = arm.options
    steps = options.loop.steps
    stops = {max(1, round(share * steps)) for share in arm.snapshots} if steps else set()
    result = {"words": list(arm.words), "device": arm.device, "course": []} | result
    result |= {"steps": steps, "batch_size": options.loop.batch_size}
    clips: Clips = {}
    for stop in sorted({*stops, steps}):
        if stop in [row["step"] for row in result["course"]]:
            continue
        spent = pretrain(arm, stop)
        clips = clips or clips_for(options, arm.train_clips)
        row = judge(kept(arm.out, stop), clips, arm.device, raw=arm.name.startswith("raw-"))
        result["course"].append({"step": stop, **row})
        result |= {k: round(v) for k, v in spent.items()}
        result["curve"] = curve(arm.out / "run") if steps else []
        write_json(file, result)


if __name__ == "__main__":
    name, out, device, train_clips, snapshots, *words = sys.argv[1:]
    shares = tuple(float(x) for x in snapshots.split(",") if x)
    run(Arm(name, Path(out) / name, device, int(train_clips), shares, tuple(words)))
