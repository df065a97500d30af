"""Compare prepared frames with stable-worldmodel's Lance format and plain HDF5, on the same clips.

    python benchmarks/formats.py          # all parts; writes benchmarks/results/formats.json
    python benchmarks/formats.py scale    # only the cost against the number of episodes

Needs `pip install lancedb pylance loguru tabulate einops` and `pip install --no-deps
stable-worldmodel` (its other dependencies replace PyTorch's CPU build). All readers run on one
thread of one process, in turn, and return clips of 16 frames. Lance stores the same JPEG files as
our `jpeg` codec; HDF5 stores the same pixels as our `raw` codec.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from PIL import Image

from worldmodel.atomic_io import write_json
from worldmodel.data.prepare import PrepareOptions, pack_runs
from worldmodel.data.prepared import PreparedClips
from worldmodel.data.shard_file import write_shard
from worldmodel.data.writers.synthetic import draw_frames, random_states

OUT = Path(__file__).parent / "results" / "formats.json"
EPISODES, STEPS, SIDE, FRAMES, BATCH, ROUNDS = 12, 60, 256, 16, 8, 11
SIZES = (1_000, 10_000, 100_000)
"""Numbers of episodes for the cost of opening and sampling."""


def episode(number: int) -> dict[str, np.ndarray]:
    """Return a run: frames [60, 256, 256, 3] about as detailed as a camera's, and states."""
    draw = np.random.default_rng(number)
    states = random_states(STEPS, number)
    frames = draw_frames(states, (SIDE, SIDE)).astype(np.int16)
    coarse = Image.fromarray(draw.integers(0, 256, (SIDE // 4, SIDE // 4, 3), dtype=np.uint8))
    texture = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(np.int16)
    frames += (texture - 128) // 4
    frames += draw.integers(-2, 3, (STEPS, SIDE, SIDE, 1), dtype=np.int16)
    return {"frames": np.clip(frames, 0, 255).astype(np.uint8), "states": states}


def write_prepared(folder: Path, runs: list[dict[str, np.ndarray]], codec: str) -> None:
    """Write runs as `worldmodel data prepare` does, 16 a shard file."""
    options = PrepareOptions(codec=codec, image_size=SIDE)  # type: ignore[arg-type]
    folder.mkdir()
    groups = [runs[first : first + 16] for first in range(0, len(runs), 16)]
    for number, group in enumerate(groups):
        write_shard(folder / f"shard-{number:06d}.safetensors", pack_runs(group, options))
    write_json(folder / "plan.json", {"options": asdict(options)})
    write_json(folder / "summary.json", {"shards": len(groups)})


def lance_format() -> Any:
    """Import stable-worldmodel's Lance reader without the package's policies and environments.

    The package's `__init__` imports all of them, and with them torchvision, which has to match
    PyTorch's build.
    """
    spec = importlib.util.find_spec("stable_worldmodel")
    if spec is None:
        sys.exit(f"stable-worldmodel is not installed.\n{__doc__}")
    sys.modules["stable_worldmodel"] = importlib.util.module_from_spec(spec)
    return importlib.import_module("stable_worldmodel.data.formats.lance")


def write_lance(folder: Path, runs: list[dict[str, np.ndarray]], lance: Any) -> None:
    """Write runs by stable-worldmodel's own writer."""
    with lance.LanceWriter(folder / "clips.lance", mode="overwrite") as writer:
        columns = {"pixels": "frames", "state": "states"}
        writer.write_episodes({c: list(r[name]) for c, name in columns.items()} for r in runs)


def write_hdf5(file: Path, runs: list[dict[str, np.ndarray]]) -> None:
    """Write runs as contiguous arrays."""
    with h5py.File(file, "w") as out:
        for name in ("frames", "states"):
            out[name] = np.concatenate([run[name] for run in runs])


def read_hdf5(file: h5py.File, starts: np.ndarray) -> torch.Tensor:
    """Return clips [B, 16, 256, 256, 3] and read their states."""
    frames = np.stack([file["frames"][at : at + FRAMES] for at in starts])
    np.stack([file["states"][at : at + FRAMES] for at in starts])
    return torch.from_numpy(frames)


def size_of(path: Path) -> int:
    """Return the bytes of a file or of all files of a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)


def compare(folder: Path) -> dict[str, Any]:
    """Return clips per second, CPU time and bytes of each format, from interleaved rounds."""
    lance = lance_format()
    runs = [episode(number) for number in range(EPISODES)]
    for codec in ("jpeg", "raw"):
        write_prepared(folder / codec, runs, codec)
    write_lance(folder / "lance", runs, lance)
    write_hdf5(folder / "clips.h5", runs)
    jpeg, raw = (PreparedClips(folder / codec, FRAMES) for codec in ("jpeg", "raw"))
    theirs = lance.LanceDataset(folder / "lance" / "clips.lance", num_steps=FRAMES)
    plain = h5py.File(folder / "clips.h5")
    clips = STEPS - FRAMES + 1
    if not len(jpeg) == len(theirs) == EPISODES * clips:
        raise RuntimeError(f"{len(jpeg)} clips of ours, {len(theirs)} of Lance")

    def rows(numbers: np.ndarray) -> np.ndarray:
        return numbers // clips * STEPS + numbers % clips

    reads: dict[str, Callable[[np.ndarray], Any]] = {
        "ours, jpeg": lambda n: jpeg.batch(n)["frames"],
        "Lance, jpeg": lambda n: [clip["pixels"] for clip in theirs.__getitems__(n.tolist())],
        "ours, raw": lambda n: raw.batch(n)["frames"],
        "HDF5, raw": lambda n: read_hdf5(plain, rows(n)),
    }
    draw = np.random.default_rng(0)
    some = draw.integers(0, len(jpeg), BATCH)
    a = np.asarray(reads["ours, jpeg"](some))
    b = np.stack([clip.permute(0, 2, 3, 1).numpy() for clip in reads["Lance, jpeg"](some)])
    c, d = np.asarray(reads["ours, raw"](some)), reads["HDF5, raw"](some).numpy()
    took: dict[str, list[float]] = {name: [] for name in reads}
    cpu: dict[str, list[float]] = {name: [] for name in reads}
    for turn in range(ROUNDS):
        numbers = draw.integers(0, len(jpeg), BATCH)
        for name in list(reads)[:: -1 if turn % 2 else 1]:
            start, start_cpu = time.perf_counter(), time.process_time()
            reads[name](numbers)
            took[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - start_cpu)
    pace = {name: BATCH / statistics.median(times) for name, times in took.items()}
    places = {"ours, jpeg": "jpeg", "Lance, jpeg": "lance", "ours, raw": "raw"}
    places["HDF5, raw"] = "clips.h5"
    frames = EPISODES * STEPS
    return {
        "what": f"batches of {BATCH} random clips of {FRAMES} frames, {SIDE} px, one thread",
        "clips_per_s": {name: round(value, 2) for name, value in pace.items()},
        "cpu_ms_per_clip": {
            name: round(1000 * statistics.median(times) / BATCH, 2) for name, times in cpu.items()
        },
        "bytes_per_frame": {name: size_of(folder / p) // frames for name, p in places.items()},
        "ours_to_lance": round(pace["ours, jpeg"] / pace["Lance, jpeg"], 2),
        "ours_to_hdf5": round(pace["ours, raw"] / pace["HDF5, raw"], 2),
        "same_frames": {"jpeg": bool((a == b).all()), "raw": bool((c == d).all())},
        "lance_decodes_with": "torchvision" if lance._tv_decode_jpeg else "PIL, as ours",  # noqa: SLF001
        "rounds": ROUNDS,
    }


def write_tiny(folder: Path, episodes: int) -> None:
    """Write prepared data of many short episodes of 2 x 2 pixels: the cost is that of the lists."""
    options = PrepareOptions(codec="raw", image_size=2)
    folder.mkdir()
    frames = np.zeros((20, 2, 2, 3), np.uint8)
    runs = [{"frames": frames, "states": random_states(20, number)} for number in range(16)]
    first = folder / "shard-000000.safetensors"
    write_shard(first, pack_runs(runs, options))
    for number in range(1, episodes // 16):
        file = folder / f"shard-{number:06d}.safetensors"
        shutil.copyfile(first, file)
        shutil.copyfile(first.with_suffix(".sha256"), file.with_suffix(".sha256"))
    write_json(folder / "plan.json", {"options": asdict(options)})
    write_json(folder / "summary.json", {"shards": episodes // 16})


def scale(folder: Path) -> list[dict[str, Any]]:
    """Return CPU seconds of opening prepared data, and of a batch, by number of episodes."""
    found = []
    for episodes in SIZES:
        write_tiny(folder / str(episodes), episodes)
        began = time.process_time()
        clips = PreparedClips(folder / str(episodes), FRAMES)
        opened = time.process_time() - began
        draw = np.random.default_rng(0)
        took = []
        for _ in range(200):
            numbers = draw.integers(0, len(clips), BATCH)
            began = time.process_time()
            clips.batch(numbers)
            took.append(time.process_time() - began)
        row = {
            "episodes": episodes,
            "clips": len(clips),
            "open_cpu_s": round(opened, 3),
            "open_cpu_us_per_episode": round(1e6 * opened / episodes, 1),
            "batch_cpu_ms": round(1e3 * statistics.median(took), 3),
        }
        print(json.dumps(row), flush=True)
        found.append(row)
    return found


def main() -> None:
    """Measure the parts named by the words, or all, and write the results."""
    torch.set_num_threads(1)
    result = json.loads(OUT.read_text(encoding="utf-8")) if OUT.is_file() else {}
    parts = sys.argv[1:] or ["formats", "scale"]
    for part in parts:
        with tempfile.TemporaryDirectory() as name:
            if part == "formats":
                result["formats"] = compare(Path(name))
                names = ("torch", "h5py", "pylance", "lancedb", "stable-worldmodel", "pillow")
                result["versions"] = {name: version(name) for name in names}
            elif part == "scale":
                result["scale"] = scale(Path(name))
            else:
                sys.exit(f"{part!r} is unknown: formats, scale")
    result["machine"] = {"cpu": platform.machine(), "python": platform.python_version()}
    OUT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
