"""Clips per second: raw files, prepared frames and features, beside a plain decode from the start.

`python -m benchmarks.data` (about a minute); writes benchmarks/results/data.json.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from worldmodel.config import Convention
from worldmodel.data.clips import ClipOptions, grid_steps
from worldmodel.data.dataset import RawClips
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.prepare import PrepareOptions, encoder_hash, prepare
from worldmodel.data.prepared import PreparedClips
from worldmodel.data.synthetic import write_dataset
from worldmodel.data.transforms import Preprocess
from worldmodel.frozen_encoder import frame_encoder, open_encoder

SIZE, STEPS, EPISODES, SIDE = (720, 1280), 180, 3, 256


def plain(clips: RawClips, index: int) -> np.ndarray:
    """Open the video, decode and convert every frame up to the clip's last one, keep the clip's."""
    row, start = clips.items[index]
    episode = clips.open(row)
    steps = grid_steps(episode.times_s, start, clips.options)
    path = next((clips.manifest.root / clips.manifest.rows[row]["path"]).rglob("*.mp4"))
    frames = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) > steps[-1]:
                break
    return np.asarray(clips.transform(np.stack([frames[step] for step in steps])))


def rate(read: Callable[[int], Any], numbers: np.ndarray) -> float:
    """Clips a second."""
    start = time.perf_counter()
    for number in numbers:
        read(int(number))
    return len(numbers) / (time.perf_counter() - start)


def main() -> None:
    """Measure all four in one process, on the same clips."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_dataset(root / "data", episodes=EPISODES, steps=STEPS, size=SIZE)
        build_index(root / "data", root / "index", workers=1)
        manifest = open_manifest(root / "index")
        transform = Preprocess("droid", (SIDE, SIDE))
        raw = RawClips(manifest, ClipOptions(), transform, workers=1)
        prepare(manifest, root / "frames", PrepareOptions(), transform)
        encoder = open_encoder("random:tiny", image_size=SIDE)
        encode = frame_encoder(encoder, Convention()).encode
        plan = PrepareOptions(what="features", encoder_hash=encoder_hash(encoder))
        prepare(manifest, root / "features", plan, transform, encode)
        frames = PreparedClips(root / "frames", 16)
        features = PreparedClips(root / "features", 16)
        numbers = np.random.default_rng(0).choice(len(raw), size=12, replace=False)
        found = {
            "plain_decode_from_start": rate(lambda i: plain(raw, i), numbers),
            "raw": rate(raw.clip, numbers),
            "prepared_frames": rate(lambda i: frames.batch(np.array([i])), np.tile(numbers, 4)),
            "features": rate(lambda i: features.batch(np.array([i])), np.tile(numbers, 20)),
        }
        same = np.abs(plain(raw, 3).astype(int) - raw.clip(3)["frames"]).max()
    plain_rate = found["plain_decode_from_start"]
    result = {
        "what": "clips a second, 16 frames at 4 fps, one thread",
        "video": f"h264 {SIZE[1]}x{SIZE[0]}, {STEPS} steps, key frame every 250",
        "clips_per_s": {k: round(v, 3) for k, v in found.items()},
        "ratio_to_plain": {k: round(v / plain_rate, 2) for k, v in found.items()},
        "largest_difference_raw_to_plain": int(same),
        "features_are": "16x16 tokens of 32 (tiny encoder); ViT-g's are 44 times as large",
        "machine": {"cpu": platform.machine(), "python": platform.python_version()},
        "versions": {"av": av.__version__, "torch": torch.__version__},
    }
    out = Path(__file__).parent / "results" / "data.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
