"""Benchmark clips per second of raw files, prepared frames and features against a plain decode.

`python benchmarks/data.py` (about a minute); writes benchmarks/results/data.json. If torchcodec
loads, both decoders read the same videos in turn.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from worldmodel.checkpoints.loading import load_encoder
from worldmodel.data.dataset import RawClips
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.prepare import PrepareOptions, encoder_hash, prepare
from worldmodel.data.prepared import PreparedClips
from worldmodel.data.sampling import ClipOptions, grid_steps
from worldmodel.data.transforms import Preprocess
from worldmodel.data.video import DECODER, VideoFrames, choose_decoder
from worldmodel.data.writers.synthetic import draw_frames, random_states, write_dataset
from worldmodel.data.writers.video import write_video
from worldmodel.errors import ConfigError

SIZE, STEPS, EPISODES, SIDE = (720, 1280), 180, 3, 256
X264 = {"crf": "18", "preset": "veryfast", "threads": "1"}
VIDEOS: dict[str, tuple[int, tuple[int, int], str, dict[str, str]]] = {
    "h264 128x128, 60 frames": (60, (128, 128), "libx264", X264),
    "h264 1280x720, 180 frames": (180, SIZE, "libx264", X264),
    "av1 320x180, 300 frames, key frame every 2": (
        300,
        (180, 320),
        "libsvtav1",
        {"preset": "10", "crf": "30", "g": "2"},
    ),
    "av1 320x180, 300 frames": (300, (180, 320), "libsvtav1", {"preset": "10", "crf": "30"}),
}
"""Name -> frames, height and width, codec, its options: `worldmodel collect`'s, raw DROID's and
LeRobot's recordings, and AV1 with few key frames."""


def plain(clips: RawClips, index: int) -> np.ndarray:
    """Decode and convert every frame up to the clip's last one, and return the clip."""
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
    """Return the clips per second."""
    start = time.perf_counter()
    for number in numbers:
        read(int(number))
    return len(numbers) / (time.perf_counter() - start)


def textured(frames: int, size: tuple[int, int]) -> np.ndarray:
    """Return the drawn scene with a static texture and noise, for a realistic decoding load."""
    rng = np.random.default_rng(0)
    drawn = draw_frames(random_states(frames, 0), size).astype(np.int16)
    drawn += rng.integers(-12, 12, size=(*size, 1), dtype=np.int16)
    return np.clip(drawn + rng.integers(-3, 4, drawn.shape, np.int16), 0, 255).astype(np.uint8)


def timed(video: VideoFrames, steps: np.ndarray, decoder: str) -> tuple[float, np.ndarray]:
    """Return the milliseconds of one read, and its frames."""
    os.environ[DECODER] = decoder
    start = time.perf_counter()
    frames = video.read(steps)
    return 1000 * (time.perf_counter() - start), frames


def compare_decoders(folder: Path, rounds: int = 11) -> dict[str, Any] | str:
    """Return the median milliseconds of each decoder by video and clip, measured in turn."""
    try:
        choose_decoder("torchcodec")
    except ConfigError as error:
        return str(error)
    found: dict[str, Any] = {}
    before = os.environ.get(DECODER)
    for number, (name, (count, size, codec, options)) in enumerate(VIDEOS.items()):
        video = VideoFrames(folder / f"{number}.mp4", count)
        write_video(video.path, textured(count, size), header_fps=60, codec=codec, options=options)
        gap = 3 if count < 100 else 4
        clip = np.arange(0, 16 * gap, gap)
        reads = {
            "whole": np.arange(count),
            "clip of 16 at the start": clip,
            "clip of 16 at the end": clip + count - 1 - clip[-1],
        }
        for what, steps in reads.items():
            took: dict[str, list[float]] = {"pyav": [], "torchcodec": []}
            frames = {decoder: timed(video, steps, decoder)[1] for decoder in took}
            same = bool((frames["pyav"] == frames["torchcodec"]).all())
            frames.clear()  # hundreds of megabytes, which would slow the next reader
            for turn in range(rounds):
                for decoder in list(took)[:: 1 if turn % 2 else -1]:
                    took[decoder].append(timed(video, steps, decoder)[0])
            pyav, torchcodec = (statistics.median(times) for times in took.values())
            found.setdefault(name, {})[what] = {
                "pyav_ms": round(pyav, 1),
                "torchcodec_ms": round(torchcodec, 1),
                "ratio": round(pyav / torchcodec, 2),
                "same_frames": same,
            }
    os.environ.pop(DECODER)
    if before is not None:
        os.environ[DECODER] = before
    return found


def main() -> None:
    """Measure all four methods in one process, on the same clips."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_dataset(root / "data", episodes=EPISODES, steps=STEPS, size=SIZE)
        build_index(root / "data", root / "index", workers=1)
        manifest = open_manifest(root / "index")
        transform = Preprocess("droid", (SIDE, SIDE))
        raw = RawClips(manifest, ClipOptions(), transform, workers=1)
        prepare(manifest, root / "frames", PrepareOptions(), transform)
        encoder = load_encoder("random:tiny", "cpu", image_size=SIDE)
        encode = encoder.encode
        plan = PrepareOptions(what="features", encoder_hash=encoder_hash(encoder.backbone))
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
        decoders = compare_decoders(root)
    plain_rate = found["plain_decode_from_start"]
    result = {
        "what": "clips a second, 16 frames at 4 fps, one thread",
        "video": f"h264 {SIZE[1]}x{SIZE[0]}, {STEPS} steps, key frame every 250",
        "decoder_of_raw": choose_decoder(),
        "clips_per_s": {k: round(v, 3) for k, v in found.items()},
        "ratio_to_plain": {k: round(v / plain_rate, 2) for k, v in found.items()},
        "largest_difference_raw_to_plain": int(same),
        "features_are": "16x16 tokens of 32 (tiny encoder); ViT-g's are 44 times as large",
        "decoders_one_thread": decoders,
        "machine": {"cpu": platform.machine(), "python": platform.python_version()},
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("av", "torch", "torchcodec")
            if importlib.util.find_spec(name)
        },
    }
    out = Path(__file__).parent / "results" / "data.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
