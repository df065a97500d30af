"""Short episodes decoded once into flat arrays, so that a small model trains from memory.

Reads the raw DROID layout as `worldmodel collect` writes it (with `action/delta`, the action as
sent). Shapes: F frames of all episodes laid end to end, B clips, T frames a clip.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
from tqdm import tqdm

from worldmodel.errors import DataError

FIELDS = ("frames", "states", "actions", "objects")


def read_episode(folder: Path, image_size: int) -> dict[str, np.ndarray]:
    """Decode one simulated episode's left camera, states, sent actions and object positions.

    Raises:
        DataError: metadata, arrays or frames are missing or of unequal length.
    """
    try:
        metadata = json.loads(next(folder.glob("metadata_*.json")).read_text(encoding="utf-8"))
        video = folder / "recordings" / "MP4" / f"{metadata['ext1_cam_serial']}.mp4"
        with h5py.File(folder / "trajectory.h5", "r") as file:
            pose = file["observation/robot_state/cartesian_position"][:]
            grip = file["observation/robot_state/gripper_position"][:]
            actions = file["action/delta"][:]
            objects = (
                file["observation/simulation/object_position"][:]
                if "observation/simulation/object_position" in file
                else np.full((len(pose), 3), np.nan)
            )
        with av.open(str(video)) as container:
            frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    except (StopIteration, KeyError, OSError, ValueError, av.FFmpegError) as error:
        raise DataError(f"Episode {folder} cannot be read: {error!r}; collect it again") from error
    if len(frames) != len(pose):
        raise DataError(f"Episode {folder} has {len(frames)} frames for {len(pose)} steps")
    if frames.shape[1] != image_size:
        if frames.shape[1] % image_size:
            raise DataError(
                f"Episode {folder} is {frames.shape[1]} px; image_size={image_size} must divide it"
            )
        k = frames.shape[1] // image_size
        shape = (len(frames), image_size, k, image_size, k, 3)
        frames = frames.reshape(shape).mean((2, 4)).round().astype(np.uint8)
    return {
        "frames": frames,
        "states": np.concatenate([pose, grip.reshape(-1, 1)], 1).astype(np.float32),
        "actions": actions.astype(np.float32),
        "objects": objects.astype(np.float32),
    }


def build_cache(root: Path, image_size: int, workers: int = 2) -> Path:
    """Decode all episodes under `root` once; returns the folder of flat .npy files.

    Written to a folder of this process's own and renamed when whole, so that runs started at the
    same time do not disturb each other; made anew when the episodes change.
    """
    episodes = sorted(p.parent for p in root.rglob("trajectory.h5"))
    if not episodes:
        raise DataError(f"No episodes under {root}: make some with `worldmodel collect out={root}`")
    cache = root / f".frames-{image_size}"
    stamp = {"episodes": [str(p.relative_to(root)) for p in episodes], "image_size": image_size}
    if (cache / "stamp.json").is_file():
        if json.loads((cache / "stamp.json").read_text(encoding="utf-8"))["of"] == stamp:
            return cache
        for old in cache.iterdir():
            old.unlink()
        cache.rmdir()
    part = Path(tempfile.mkdtemp(prefix=f".frames-{image_size}-", dir=root))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in FIELDS}
    starts = [0]
    with ProcessPoolExecutor(workers) as pool:
        jobs = pool.map(read_episode, episodes, [image_size] * len(episodes), chunksize=8)
        for episode in tqdm(jobs, total=len(episodes), desc="decoding", unit="episode"):
            for name in FIELDS:
                parts[name].append(episode[name])
            starts.append(starts[-1] + len(episode["states"]))
    for name in FIELDS:
        np.save(part / f"{name}.npy", np.concatenate(parts[name]))
    np.save(part / "starts.npy", np.array(starts))
    (part / "stamp.json").write_text(json.dumps({"of": stamp}), encoding="utf-8")
    try:
        part.rename(cache)
    except OSError:  # another run was first, with the same episodes
        shutil.rmtree(part)
    return cache


class MemoryClips:
    """Every window of `num_frames` neighbouring steps of every episode."""

    def __init__(self, cache: Path, num_frames: int) -> None:
        self.num_frames = num_frames
        self.arrays: dict[str, Any] = {
            name: np.load(cache / f"{name}.npy", mmap_mode="r" if name == "frames" else None)
            for name in FIELDS
        }
        starts = np.load(cache / "starts.npy")
        firsts = [np.arange(a, b - num_frames + 1) for a, b in itertools.pairwise(starts)]
        self.firsts = np.concatenate(firsts)

    def __len__(self) -> int:
        return len(self.firsts)

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Frames uint8 [B,T,H,W,3], states [B,T,7], actions [B,T-1,7], objects [B,T,3]."""
        steps = self.firsts[indices][:, None] + np.arange(self.num_frames)
        out = {name: np.asarray(self.arrays[name][steps]) for name in FIELDS}
        out["actions"] = np.ascontiguousarray(out["actions"][:, :-1])
        return out


def open_clips(root: str | Path, num_frames: int, image_size: int) -> MemoryClips:
    """Clips of the episodes under `root`, decoded on first use."""
    return MemoryClips(build_cache(Path(root), image_size), num_frames)
