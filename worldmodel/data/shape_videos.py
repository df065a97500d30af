"""Write made clips of moving shapes as video files, to try probes and surprise offline.

| folder | content |
|---|---|
| `train/CLASS/0000.mp4`, `val/CLASS/0000.mp4` | a folder for each class of the chosen label |
| `images/train/0000.png`, `images/val/0000.png` | single frames, for I-JEPA |
| `pairs/level2/P_vanishes/0.mp4`, `IP_vanishes/0.mp4` | the same clip, possible and impossible |

The pairs have GRASP's layout, so `worldmodel surprise benchmark=grasp data=OUT/pairs` reads them.
Number N of `vanishes` and of `appears` is one scene: with its shape all along, until the middle,
without it all along (the possible video of `appears`), and from the middle on.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from worldmodel.atomic_io import atomic_file, read_json_lines, write_text
from worldmodel.data.moving_shapes import ShapeClips
from worldmodel.data.shape_options import EVENTS, LABELS, ShapeClipOptions, ShapeVideoOptions
from worldmodel.data.writers.video import write_video
from worldmodel.errors import ConfigError
from worldmodel.output_guard import lock_path

FPS = 8.0
"""Frame rate in the files' headers [Hz]."""
CODEC = {"crf": "10", "preset": "veryfast", "mbtree": "0", "threads": "1"}
"""H.264 options: the shapes are small, so little is lost; without `mbtree`, which gives other bytes
for the same small frames, a set is the same whenever it is written."""
SEEDS = {"train": 1, "val": 2, "pairs": 3, "images": 4}
"""Part of the set -> offset of its seed; parts share neither textures nor paths."""

RECORD = "shape_videos.json"
"""Name of the file with the options of a set."""
MAY_DIFFER = ("out", "train", "val")
"""Options that add videos of the same kind; the others number or change them."""


def write_shape_videos(options: ShapeVideoOptions) -> dict[str, int]:
    """Write the files of the set that are missing; return the number of files of each part.

    Raises:
        ConfigError: No file is asked for, or the folder holds files of something else.
    """
    _require_own_folder(options)
    return {
        "train": _write_classes(options, "train", options.train),
        "val": _write_classes(options, "val", options.val),
        "images": _write_images(options),
        "pairs": _write_pairs(options),
    }


def _require_own_folder(options: ShapeVideoOptions) -> None:
    """Check that a folder is empty or holds a set of the same options, and keep them there."""
    if not options.train + options.val + options.images + options.pairs:
        raise ConfigError(
            "train=0 val=0 images=0 pairs=0 asks for no file. Give one of them above 0"
        )
    out = Path(options.out)
    facts = {k: v for k, v in asdict(options).items() if k not in MAY_DIFFER}
    there = [path for path in out.glob("*") if path != lock_path(out)]
    if there and next(read_json_lines(out / RECORD), None) != facts:
        raise ConfigError(
            f"{out} holds {there[0].name}, and no set of the same options: give another out=, or "
            "empty it"
        )
    write_text(out / RECORD, json.dumps(facts) + "\n")


def _clips(options: ShapeVideoOptions, part: str) -> ShapeClips:
    seed = len(SEEDS) * options.seed + SEEDS[part]
    sizes = ShapeClipOptions(num_frames=options.num_frames, side=options.side, seed=seed)
    return ShapeClips(sizes)


def _save(path: Path, frames_TSSC: np.ndarray) -> None:
    with atomic_file(path) as part:
        write_video(part, frames_TSSC, header_fps=FPS, options=CODEC, container_format="mp4")


def _write_classes(options: ShapeVideoOptions, part: str, count: int) -> int:
    clips, names = _clips(options, part), LABELS[options.label]
    for name in names if count else ():  # probes want the same classes in both parts
        (Path(options.out) / part / name).mkdir(parents=True, exist_ok=True)
    there = {path.stem for path in (Path(options.out) / part).glob("*/*.mp4")}
    missing = [number for number in range(count) if f"{number:05d}" not in there]
    for number in tqdm(missing, desc=part, unit="video"):
        clip = clips.batch(np.array([number]))
        name = names[int(clip[options.label][0])]
        _save(Path(options.out) / part / name / f"{number:05d}.mp4", clip["frames"][0])
    return count


def _write_images(options: ShapeVideoOptions) -> int:
    clips, held_out = _clips(options, "images"), math.ceil(options.images / 4)
    for number in range(options.images + held_out):
        part = "train" if number < options.images else "val"
        path = Path(options.out) / "images" / part / f"{number:05d}.png"
        if not path.is_file():
            frame = clips.batch(np.array([number]))["frames"][0, 0]
            with atomic_file(path) as file:
                Image.fromarray(frame).save(file, "PNG")
    return options.images + held_out


def _write_pairs(options: ShapeVideoOptions) -> int:
    clips, folder = _clips(options, "pairs"), Path(options.out) / "pairs" / "level2"
    for event in EVENTS:
        for number in range(options.pairs):
            index = number + (options.pairs if event == "jumps" else 0)
            possible, broken = (folder / f"{k}_{event}" / f"{number}.mp4" for k in ("P", "IP"))
            if not possible.is_file():
                is_empty = event == "appears"
                whole = clips.batch(np.array([index]))["frames"][0]
                _save(possible, clips.empty_frames(index) if is_empty else whole)
            if not broken.is_file():
                _save(broken, clips.broken_frames(index, event))
    return 2 * len(EVENTS) * options.pairs
