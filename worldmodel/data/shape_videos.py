"""Write made clips of moving shapes as video files, to try probes and surprise offline.

| folder | content |
|---|---|
| `train/CLASS/0000.mp4`, `val/CLASS/0000.mp4` | a folder for each class of the chosen label |
| `images/train/0000.png`, `images/val/0000.png` | single frames, for I-JEPA |
| `pairs/level2/P_vanishes/0.mp4`, `IP_vanishes/0.mp4` | the same clip, possible and impossible |

The pairs have GRASP's layout, so `worldmodel surprise benchmark=grasp data=OUT/pairs` reads them.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from worldmodel.data.moving_shapes import ShapeClips
from worldmodel.data.shape_options import EVENTS, LABELS, ShapeClipOptions, ShapeVideoOptions
from worldmodel.data.writers.video import write_video
from worldmodel.errors import ConfigError
from worldmodel.output_guard import lock_path

FPS = 8.0
"""Frame rate in the files' headers [Hz]."""
CODEC = {"crf": "10", "preset": "veryfast", "threads": "1"}
"""H.264 options: the shapes are small, so little is lost."""
SEEDS = {"train": 1, "val": 2, "pairs": 3, "images": 4}
"""Part of the set -> offset of its seed; parts share neither textures nor paths."""


def write_shape_videos(options: ShapeVideoOptions) -> dict[str, int]:
    """Write the set; return the number of files of each part.

    Raises:
        ConfigError: The folder is not empty.
    """
    out = Path(options.out)
    there = [path for path in out.glob("*") if path != lock_path(out)]
    if there:
        raise ConfigError(f"{out} holds {there[0].name}: give another out=, or empty it")
    return {
        "train": _write_classes(options, "train", options.train),
        "val": _write_classes(options, "val", options.val),
        "images": _write_images(options),
        "pairs": _write_pairs(options),
    }


def _clips(options: ShapeVideoOptions, part: str) -> ShapeClips:
    seed = len(SEEDS) * options.seed + SEEDS[part]
    sizes = ShapeClipOptions(num_frames=options.num_frames, side=options.side, seed=seed)
    return ShapeClips(sizes)


def _save(path: Path, frames_TSSC: np.ndarray) -> None:
    write_video(path, frames_TSSC, header_fps=FPS, options=CODEC)


def _write_classes(options: ShapeVideoOptions, part: str, count: int) -> int:
    clips, names = _clips(options, part), LABELS[options.label]
    for name in names if count else ():  # probes want the same classes in both parts
        (Path(options.out) / part / name).mkdir(parents=True)
    for number in range(count):
        clip = clips.batch(np.array([number]))
        name = names[int(clip[options.label][0])]
        _save(Path(options.out) / part / name / f"{number:05d}.mp4", clip["frames"][0])
    return count


def _write_images(options: ShapeVideoOptions) -> int:
    clips, held_out = _clips(options, "images"), math.ceil(options.images / 4)
    for number in range(options.images + held_out):
        part = "train" if number < options.images else "val"
        path = Path(options.out) / "images" / part / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame = clips.batch(np.array([number]))["frames"][0, 0]
        Image.fromarray(frame).save(path)
    return options.images + held_out


def _write_pairs(options: ShapeVideoOptions) -> int:
    clips, folder = _clips(options, "pairs"), Path(options.out) / "pairs" / "level2"
    for place, event in enumerate(EVENTS):
        for number in range(options.pairs):
            index = place * options.pairs + number
            _save(
                folder / f"P_{event}" / f"{number}.mp4", clips.batch(np.array([index]))["frames"][0]
            )
            _save(folder / f"IP_{event}" / f"{number}.mp4", clips.broken_frames(index, event))
    return 2 * len(EVENTS) * options.pairs
