"""Benchmark the index of large data sets: time by size, bytes read, speed against a checkout.

`python benchmarks/data_scale.py [lists] [rlds] [raw] [before=DIR]` (about five minutes in all)
measures the named parts and updates them in benchmarks/results/data_scale.json. `before` is a
checkout whose index and clips are timed in turn with this one's, on the same files and in processes
of their own. Times are CPU time of one process.
"""

from __future__ import annotations

import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from worldmodel.data.dataset import open_row
from worldmodel.data.episode_cache import MAX_BYTES, size_of
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.inspection import IndexOptions
from worldmodel.data.readers.crc32c import masked_crc32c
from worldmodel.data.readers.options import ReadOptions
from worldmodel.data.video import DECODER
from worldmodel.data.writers.synthetic import draw_frames, random_states, write_dataset
from worldmodel.data.writers.video import write_video

SIZES, STEPS, PER_FILE = (1_000, 10_000, 100_000), 4, 1000
"""Numbers of episodes (DROID has 95,600), with few steps each: their videos are not written."""
KEYS = [f"observation.images.{v}" for v in ("exterior_1_left", "exterior_2_left", "wrist_left")]
SHARDS, PER_SHARD, RECORD_STEPS = 6, 8, 60
VIDEO_SIZES = {"tiny": (28, (128, 128)), "as in DROID": (300, (180, 320))}
"""Steps, and height and width [px], of the raw episodes whose bytes are counted."""
ROUNDS = 20
TIMED = """
import statistics, sys, time
from pathlib import Path
import numpy as np
from worldmodel.data.dataset import RawClips
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.sampling import ClipOptions
from worldmodel.data.transforms import Preprocess
root, out = Path(sys.argv[1]), Path(sys.argv[2])
build_index(root, out / "warm", workers=1)
times = []
for turn in range(5):
    start = time.process_time()
    build_index(root, out / f"timed-{turn}", workers=1)
    times.append(time.process_time() - start)
start = time.process_time()
options = ClipOptions(num_frames=8, fps=4.0, stride_s=0.25)
clips = RawClips(open_manifest(out / "warm"), options, Preprocess("droid", (64, 64)), workers=1)
for number in np.random.default_rng(0).integers(0, len(clips), 100):
    clips.clip(int(number))
print(statistics.median(times), time.process_time() - start)
"""


def write_lerobot_list(root: Path, episodes: int) -> None:
    """Write a LeRobot v3.0 set of rows and lists, without videos."""
    (root / "meta" / "episodes").mkdir(parents=True)
    info = {
        "codebase_version": "v3.0",
        "fps": 15,
        "features": {key: {"dtype": "video"} for key in KEYS},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    (root / "meta" / "info.json").write_text(json.dumps(info), encoding="utf-8")
    number = np.arange(episodes)
    columns = {
        "episode_index": number,
        "length": np.full(episodes, STEPS),
        "data/chunk_index": np.zeros(episodes, int),
        "data/file_index": number // PER_FILE,
    }
    for key in KEYS:
        start_s = number % 100 * STEPS / 15
        columns |= {
            f"videos/{key}/chunk_index": number // 100_000,
            f"videos/{key}/file_index": number // 100,
            f"videos/{key}/from_timestamp": start_s,
            f"videos/{key}/to_timestamp": start_s + STEPS / 15,
        }
    pq.write_table(pa.table(columns), root / "meta" / "episodes" / "file-000.parquet")
    (root / "data" / "chunk-000").mkdir(parents=True)
    for file, first in enumerate(range(0, episodes, PER_FILE)):
        rows = np.repeat(number[first : first + PER_FILE], STEPS)
        states = random_states(len(rows), file)
        table = pa.table(
            {
                "episode_index": rows,
                "timestamp": np.tile(np.arange(STEPS) / 15, len(rows) // STEPS),
                "observation.state.cartesian_position": list(states[:, :6]),
                "observation.state.gripper_position": list(states[:, 6:]),
            }
        )
        pq.write_table(table, root / "data" / "chunk-000" / f"file-{file:03d}.parquet")


def jpeg(frame: np.ndarray) -> bytes:
    """Encode a frame."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def write_rlds(root: Path) -> int:
    """Write shards of equal records; return the bytes of one."""
    from tensorflow_datasets.proto import tf_example_pb2

    states = random_states(RECORD_STEPS, 0)
    example = tf_example_pb2.Example()
    feature = example.features.feature
    place = "steps/observation/"
    feature[place + "cartesian_position"].float_list.value.extend(states[:, :6].ravel())
    feature[place + "gripper_position"].float_list.value.extend(states[:, 6])
    for view in (1, 2):
        frames = [jpeg(frame) for frame in draw_frames(states, (180, 320), side=3 - 2 * view)]
        feature[f"{place}exterior_image_{view}_left"].bytes_list.value.extend(frames)
    data = example.SerializeToString()
    header = len(data).to_bytes(8, "little")
    parts = [header, masked_crc32c(header).to_bytes(4, "little")]
    record = b"".join([*parts, data, masked_crc32c(data).to_bytes(4, "little")])
    root.mkdir()
    for shard in range(SHARDS):
        (root / f"d.tfrecord-{shard:05d}-of-{SHARDS:05d}").write_bytes(record * PER_SHARD)
    return len(record)


def bytes_read() -> int:
    """Return the bytes that this process has read (Linux)."""
    return int(Path("/proc/self/io").read_text(encoding="ascii").split()[1])


def time_list(folder: Path) -> dict[str, Any]:
    """Index rows and lists, index them again, and open the clips, by number of episodes."""
    found = []
    for episodes in SIZES:
        root, out = folder / str(episodes), folder / f"{episodes}-index"
        write_lerobot_list(root, episodes)
        options = IndexOptions(read=ReadOptions(inspect=False))
        times = [time.process_time()]
        summary = build_index(root, out, options, workers=1)
        times.append(time.process_time())
        build_index(root, out, options, workers=1)
        times.append(time.process_time())
        manifest = open_manifest(out)
        times.append(time.process_time())
        names = ("index_cpu_s", "index_again_cpu_s", "open_cpu_s")
        took = dict(zip(names, np.diff(times).round(2).tolist(), strict=True))
        row = {"episodes": episodes, "accepted": summary["accepted"], **took}
        row["index_cpu_ms_per_episode"] = round(1000 * took["index_cpu_s"] / episodes, 3)
        if len(manifest.rows) != episodes:
            raise RuntimeError(f"{len(manifest.rows)} of {episodes} episodes are in the index")
        print(json.dumps(row), flush=True)
        found.append(row)
    return {
        "what": f"LeRobot v3.0, {len(KEYS)} cameras, {STEPS} steps an episode, no videos",
        "rows": found,
    }


def read_at_random(folder: Path) -> dict[str, Any]:
    """Open RLDS episodes in random order and count the bytes read."""
    size = write_rlds(folder / "rlds")
    build_index(folder / "rlds", folder / "rlds-index", workers=1)
    manifest = open_manifest(folder / "rlds-index")
    order = np.random.default_rng(0).permutation(len(manifest.rows))
    episode = open_row(manifest, manifest.rows[0])
    before = bytes_read()
    for number in order:
        open_row(manifest, manifest.rows[number])
    return {
        "record_bytes": size,
        "shards": SHARDS,
        "records_per_shard": PER_SHARD,
        "bytes_read_per_record_bytes": round((bytes_read() - before) / len(order) / size, 4),
        "bytes_kept_of_an_open_episode": size_of(episode),
        "most_bytes_kept_in_all": MAX_BYTES,
    }


def noisy(steps: int, size: tuple[int, int]) -> np.ndarray:
    """Return frames with the texture of a camera's, so that videos have a camera's size."""
    rng = np.random.default_rng(0)
    still = rng.integers(60, 190, (*size, 3))
    noise = rng.integers(-12, 13, (steps, *size, 3))
    return (still + noise).astype(np.uint8)


def read_raw(folder: Path) -> dict[str, Any]:
    """Count the bytes read of raw DROID episodes: their inspection, and one clip of each."""
    found: dict[str, Any] = {}
    before = os.environ.get(DECODER)
    os.environ[DECODER] = "pyav"  # torchcodec reads files outside this process's counter
    for name, (steps, size) in VIDEO_SIZES.items():
        root = folder / name
        write_dataset(root, episodes=4, steps=steps, size=size)
        for path in root.rglob("*.mp4"):
            write_video(path, noisy(steps, size), header_fps=60)
        build_index(root, folder / f"{name}-index", workers=1)
        size_bytes = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        start = bytes_read()
        build_index(root, folder / f"{name}-again", workers=1)
        inspected = bytes_read() - start
        manifest = open_manifest(folder / f"{name}-index")
        start, videos = bytes_read(), 0
        for row in manifest.rows:
            frames = open_row(manifest, row).camera("left").frames
            frames.read(np.arange(steps // 2, steps // 2 + 8))
            videos += frames.path.stat().st_size
        found[name] = {
            "steps": steps,
            "episode_bytes": size_bytes // len(manifest.rows),
            "inspection_bytes_per_episode_bytes": round(inspected / size_bytes, 3),
            "first_clip_bytes_per_video_bytes": round((bytes_read() - start) / videos, 3),
        }
    os.environ.pop(DECODER)
    if before is not None:
        os.environ[DECODER] = before
    return found


def compare(folder: Path, before: Path) -> dict[str, Any]:
    """Time the index and the clips of both checkouts in turn."""
    write_dataset(folder / "raw", episodes=6, steps=90, size=(180, 320))
    write_rlds(folder / "rlds")
    found: dict[str, Any] = {}
    for name, root in (("raw DROID", folder / "raw"), ("RLDS", folder / "rlds")):
        took: dict[str, list[tuple[float, ...]]] = {"before": [], "now": []}
        trees = {"before": before, "now": Path(__file__).parents[1]}
        for turn in range(ROUNDS):
            for which in list(trees)[:: 1 if turn % 2 else -1]:
                out = folder / f"{name}-{which}-{turn}"
                words = [sys.executable, "-c", TIMED, str(root), str(out)]
                done = subprocess.run(
                    words, cwd=trees[which], capture_output=True, text=True, check=True
                )
                took[which].append(tuple(map(float, done.stdout.split())))
        for place, part in enumerate(("index", "100 clips")):
            old, new = (statistics.median(t[place] for t in times) for times in took.values())
            found[f"{name}, {part}"] = {
                "before_cpu_s": round(old, 3),
                "now_cpu_s": round(new, 3),
                "ratio": round(new / old, 3),
            }
    return found


def main() -> None:
    """Measure the parts named by the words and write the results."""
    out = Path(__file__).parent / "results" / "data_scale.json"
    result = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    for word in sys.argv[1:]:
        part, _, value = word.partition("=")
        with tempfile.TemporaryDirectory() as name:
            if part == "lists":
                result["index_of_lists"] = time_list(Path(name))
            elif part == "rlds":
                result["rlds"] = read_at_random(Path(name))
            elif part == "before":
                result["index_and_clips_cpu"] = compare(Path(name), Path(value))
            elif part == "raw":
                result["raw"] = read_raw(Path(name))
            else:
                sys.exit(f"{word!r} is unknown: lists, rlds, raw, before=DIR")
    result["machine"] = {"cpu": platform.machine(), "python": platform.python_version()}
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
