"""Probes on a made set: where an object lies in unseen appearances, and what comes before actions.

python benchmarks/probe_set.py            # two to three minutes of one core; resumes
python benchmarks/probe_set.py STAGE      # one of its stages, see STAGES
python benchmarks/probe_set.py page       # the table in docs/probes.md alone

Pictures show a simulated arm and an object in one of nine places; the validation pictures have
textures, lights and colours that training never showed. Arms of the comparison: the embedded
model's encoder, frozen, under a probe; the same encoder untrained, under the same probe; raw pixels
under the same probe; encoder and probe trained on together with labels, as a bound.
Anticipation: colours that come before 12 actions in small videos, under untrained networks.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from page_blocks import fill_blocks, markdown_table, wrap
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from envs.arm_env import ArmEnv
from worldmodel.atomic_io import write_json
from worldmodel.checkpoints.io import save
from worldmodel.checkpoints.loading import load_encoder, load_probe
from worldmodel.data.pictures import read_picture
from worldmodel.data.writers.video import write_video
from worldmodel.models.config import ProbeConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import FrameEncoder, VideoEncoder
from worldmodel.perception.heads.grid import grid
from worldmodel.perception.probes.classifiers import ProbeGrid, probabilities
from worldmodel.perception.probes.labelled_videos import LabelledItems, read_class_folders
from worldmodel.perception.views import evaluation_views

HERE = Path(__file__).parent
OUT, PAGE = HERE / "results" / "probe_set.json", HERE.parent / "docs" / "probes.md"
RUNS = Path("runs/probe_set")
COUNTS = {"train": 300, "val": 150}
EDGES_M = ((0.50, 0.56), (-0.05, 0.05))
"""Borders between the places, along x and y of the base frame."""
EPOCHS, SUPERVISED_EPOCHS, SIDE = 10, 10, 16
PROBE = ["preset=in1k", "clips.num_frames=1", "num_heads=4", "batch_size=64", f"epochs={EPOCHS}"]
PROBE += ["num_views=1", "depth=1", "device=cpu", "dtype=float32"]
MODEL = HERE.parent / "tests" / "golden" / "perception" / "vjepa2_layout.pt"
KITCHEN = ["num_heads=1", "predictor_heads=2", "probe_heads=4", "image_size=48", "num_frames=8"]
ACTIONS, VIDEOS, BEFORE, LENGTH = 12, 8, 24, 40


def place_of(object_m: np.ndarray) -> int:
    """Return the place of an object, 0 to 8."""
    row, column = (
        sum(value > edge for edge in edges)
        for value, edges in zip(object_m[:2], EDGES_M, strict=True)
    )
    return 3 * row + column


def write_pictures() -> None:
    """Write the labelled pictures as class folders."""
    for split, count in COUNTS.items():
        env = ArmEnv("push", split="train" if split == "train" else "held_out")
        for number in range(count):
            seed = number if split == "train" else 100_000 + number
            observation, _ = env.reset(seed=seed)
            folder = RUNS / split / f"place_{place_of(env.object_m)}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(observation["image"]).save(folder / f"{number:04d}.png")
        env.close()


def command(*words: str) -> float:
    """Run `worldmodel WORDS`; return its processor time [s]."""
    before = os.times()
    subprocess.run([sys.executable, "-m", "worldmodel", *words], check=True)
    after = os.times()
    return after.children_user + after.children_system - before[2] - before[3]


def probe_words(encoder: str, out: str, *more: str) -> list[str]:
    """Return the words of a probe's training."""
    lists = [f"{split}={RUNS / split}" for split in COUNTS]
    return ["probe", "train", *lists, f"encoder={encoder}", f"out={RUNS / out}", *PROBE, *more]


def probed(encoder: str, out: str, *more: str) -> dict[str, object]:
    """Train probes on an encoder; return accuracy, curve, counts and processor time."""
    seconds = command(*probe_words(encoder, out, *more))
    found = json.loads((RUNS / out / "summary.json").read_text(encoding="utf-8"))
    curves = json.loads((RUNS / out / "curves.json").read_text(encoding="utf-8"))
    best = min(range(found["heads"]), key=lambda i: curves[-1]["loss"][i])
    return {
        "top1": found["val_top1"],
        "items": found["val_items"],
        "trained_on": found["trained_on"],
        "heads": found["heads"],
        "head": found["head"],
        "loss": [row["loss"][best] for row in curves],
        "rejected": sum(len(reasons) for reasons in found["rejected"].values()),
        "cpu_s": seconds,
    }


def untrained_encoder() -> str:
    """Write the embedded encoder with new random weights; return its file."""
    torch.manual_seed(0)
    encoder = load_encoder("default", "cpu")
    assert isinstance(encoder, VideoEncoder)
    fresh = VideoEncoder(encoder.config, VisionTransformer(encoder.backbone.config))
    path = RUNS / "untrained.safetensors"
    save(path, fresh)
    return str(path)


def pictures_of(items: LabelledItems) -> tuple[Tensor, Tensor]:
    """Return uint8 pictures [B, H, W, 3], cut out as for a probe, and labels [B]."""
    frames = torch.stack([torch.from_numpy(read_picture(item.path)) for item in items.items])
    return evaluation_views(frames, frames.shape[1])[0], torch.tensor(
        [item.label for item in items.items]
    )


def raw_pixels() -> dict[str, object]:
    """Train the same grid of heads on the pixels of a small picture as one token."""
    torch.manual_seed(0)
    sets = {split: pictures_of(read_class_folders(RUNS / split)) for split in COUNTS}
    tokens = {}
    for split, (frames, _) in sets.items():
        small = F.interpolate(frames.permute(0, 3, 1, 2).float(), SIDE, mode="area")
        tokens[split] = (small.flatten(1) / 255 - 0.45) / 0.25
    labels, count = sets["train"][1], len(sets["train"][1])
    heads = ProbeGrid(
        ProbeConfig(embed_dim=tokens["train"].shape[1], num_heads=4, depth=1, num_classes=9),
        grid((5e-4, 1e-3, 1.5e-3, 2e-3), (5e-4, 1e-3, 2e-3, 4e-3, 8e-3))[::5],
        EPOCHS * (count // 64),
    )
    order, held = torch.randperm(count), count // 10
    for _ in range(EPOCHS):
        shuffled = order[held:][torch.randperm(count - held)]
        for part in shuffled.tensor_split(count // 64):
            heads.update(tokens["train"][part][None, :, None], labels[part])
    hits = {
        split: (probabilities(heads, values[None, :, None]).argmax(-1) == sets[split][1])
        for split, values in tokens.items()
    }
    best = int(hits["train"][:, order[:held]].sum(1).argmax())
    return {"top1": float(hits["val"][best].float().mean()), "items": len(sets["val"][1])}


def supervised() -> dict[str, object]:
    """Train the whole encoder with labels, from its weights and those of its probe."""
    torch.manual_seed(0)
    encoder, head = load_encoder("default", "cpu"), load_probe(RUNS / "probe", "cpu")
    (frames, labels), val = (pictures_of(read_class_folders(RUNS / split)) for split in COUNTS)
    encoder.requires_grad_(True).train()
    head.requires_grad_(True).train()
    weights = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, weight_decay=0.05)
    batches = len(labels) // 32
    total = SUPERVISED_EPOCHS * batches
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-4, total_steps=total)
    for _ in range(SUPERVISED_EPOCHS):
        for part in torch.randperm(len(labels)).tensor_split(batches):
            loss = F.cross_entropy(_logits(encoder, head, frames[part]), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        parts = [_logits(encoder.eval(), head.eval(), part) for part in val[0].split(64)]
    top1 = float((torch.cat(parts).argmax(1) == val[1]).float().mean())
    return {"top1": top1, "items": len(val[1])}


def _logits(encoder: FrameEncoder, head: nn.Module, frames_BHWC: Tensor) -> Tensor:
    pixels = encoder.clip_pixels(frames_BHWC[:, None])
    logits: Tensor = head(encoder.tokens_of(pixels))
    return logits


def killed_and_resumed() -> dict[str, object]:
    """Kill a probe's training after an epoch, run it again, and compare with a whole run."""
    words = probe_words("default", "killed", "augment=true", "epochs=3", "lr=1e-3", "save_every=4")
    process = subprocess.Popen([sys.executable, "-m", "worldmodel", *words])
    curves = RUNS / "killed" / "curves.json"
    while process.poll() is None and not (curves.is_file() and "loss" in curves.read_text()):
        time.sleep(0.05)
    was_running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    command(*words)
    whole = copy.copy(words)
    whole[whole.index(f"out={RUNS / 'killed'}")] = f"out={RUNS / 'whole'}"
    command(*whole)
    one, other = (load_file(RUNS / run / "probe.safetensors") for run in ("killed", "whole"))
    equal = all(torch.equal(one[name], other[name]) for name in other)
    return {"was_running": was_running, "bit_equal": equal}


def write_kitchen() -> None:
    """Write videos with annotations as EPIC-KITCHENS-100's: a colour tells the next action."""
    draw = np.random.default_rng(0)
    colours = draw.integers(0, 256, (ACTIONS, 3))
    root, rows = RUNS / "kitchen", dict[str, list[str]](train=[], validation=[])
    for number in range(VIDEOS):
        name, frames = f"P{number:02d}_01", list[np.ndarray]()
        for action in draw.permutation(ACTIONS):
            start = len(frames) + BEFORE
            where = "validation" if number >= VIDEOS - 3 else "train"
            rows[where].append(
                f"{name},{start},{start + LENGTH - BEFORE - 1},{action // 4},{action % 4}"
            )
            still = np.broadcast_to(colours[action], (LENGTH, 48, 64, 3)).astype(float)
            frames.extend((still + draw.normal(0, 25, still.shape)).clip(0, 255).astype(np.uint8))
        (root / name[:3]).mkdir(parents=True, exist_ok=True)
        write_video(root / name[:3] / f"{name}.MP4", np.stack(frames), header_fps=16)
    for split, lines in rows.items():
        head = "video_id,start_frame,stop_frame,verb_class,noun_class"
        (root / f"EPIC_100_{split}.csv").write_text("\n".join([head, *lines]), encoding="utf-8")


def anticipated() -> dict[str, object]:
    """Train anticipation probes, score them on unseen videos, and score untrained probes."""
    if not (RUNS / "kitchen" / "EPIC_100_train.csv").is_file():
        write_kitchen()
    inputs = [
        f"annotations={RUNS}/kitchen",
        f"videos={RUNS}/kitchen",
        f"model={MODEL}",
        "device=cpu",
    ]
    train = ["depth=2", "epochs=16", "lr=5e-3", "batch_size=8", "encode_batch=8", "augment=false"]
    found: dict[str, object] = {"chance": 100 * 5 / ACTIONS}
    for name, more in (("trained", ()), ("untrained", ("lr=1e-12", "epochs=1"))):
        out = RUNS / f"anticipate-{name}"
        seconds = command("anticipate", "train", *inputs, *KITCHEN, *train, *more, f"out={out}")
        scores = RUNS / f"scores-{name}"
        command("anticipate", *inputs, *KITCHEN, f"probe={out}/probe.pt", f"out={scores}")
        (probe,) = json.loads((scores / "summary.json").read_text(encoding="utf-8"))["probes"]
        recalls = {target: recall["mean_class_recall"] for target, recall in probe.items()}
        found[name] = recalls | {"clips": probe["action"]["num_clips"], "cpu_s": seconds}
    return found


STAGES: dict[str, Callable[[], dict[str, object]]] = {
    "probe": lambda: probed("default", "probe"),
    "one head": lambda: probed("default", "one", "lr=1e-3", "weight_decay=1e-3"),
    "untrained": lambda: probed(untrained_encoder(), "untrained"),
    "raw pixels": raw_pixels,
    "supervised": supervised,
    "resumed": killed_and_resumed,
    "anticipation": anticipated,
}


def table(found: dict[str, dict[str, object]]) -> str:
    """Return the page's table."""
    names = {
        "probe": "embedded encoder, frozen, under a probe",
        "untrained": "the same encoder untrained, under a probe",
        "raw pixels": "raw pixels, under a probe",
        "supervised": "encoder and probe trained on together with labels",
    }
    rows = []
    for key, name in names.items():
        top1, items = found[key]["top1"], found[key]["items"]
        assert isinstance(top1, float)
        rows.append([name, f"{round(top1 * int(str(items)))} of {items}", f"{100 * top1:.1f} %"])
    return markdown_table(["arm", "right", "top-1"], rows)


def notes(found: dict[str, Any]) -> str:
    """Return what the table does not hold: curve, counts, cost and the killed run."""
    probe, one = found["probe"], found["one head"]
    curve = ", ".join(f"{loss:.2f}" for loss in probe["loss"])
    equal = "the same bits as" if found["resumed"]["bit_equal"] else "other bits than"
    held = COUNTS["train"] - probe["trained_on"]
    return wrap(
        f"Training loss of the head that ends lowest, epoch by epoch: {curve}. The probe was "
        f"trained on {probe['trained_on']} items, and its head was chosen on the other {held}; "
        f"{probe['rejected']} items were rejected. The whole command took {probe['cpu_s']:.0f} s "
        f"of processor time with {probe['heads']} heads and {one['cpu_s']:.0f} s with one: this "
        "encoder gives one token a picture, so that encoding costs little and updating the heads' "
        "weights much. A run on random views that was killed while it trained ended with "
        f"{equal} a whole run."
    )


def anticipation(found: dict[str, Any]) -> str:
    """Return the table of recalls of actions."""
    row = found["anticipation"]
    rows = [
        [name, row[name]["clips"], f"{row[name]['action']:.1f} %"]
        for name in ("trained", "untrained")
    ]
    rows.append(["chance", "", f"{row['chance']:.1f} %"])
    return markdown_table(["probe", "clips", "action"], rows)


def write_page(found: dict[str, dict[str, object]]) -> None:
    """Write the figures into the page."""
    blocks = {"set": f"{table(found)}\n\n{notes(found)}", "anticipation": anticipation(found)}
    fill_blocks(PAGE, blocks)


def results() -> dict[str, dict[str, object]]:
    """Return the results so far, by stage."""
    found: dict[str, dict[str, object]] = {}
    if OUT.is_file():
        found = json.loads(OUT.read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Run the stages without a result, and write the table."""
    asked = sys.argv[1:] or list(STAGES)
    torch.set_num_threads(1)
    for name in asked if asked != ["page"] else ():
        if name not in results():
            if not (RUNS / "val").is_dir():
                write_pictures()
            row = STAGES[name]()
            write_json(OUT, results() | {name: row})
    found = results()
    if found.keys() >= STAGES.keys():
        write_page(found)
        print(PAGE)


if __name__ == "__main__":
    main()
