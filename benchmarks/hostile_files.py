"""Count how many damaged or hostile files are held, for each format that is read.

`python benchmarks/hostile_files.py` (one to a few minutes); it prints a table and writes
benchmarks/results/hostile_files.json. Every input is a good file with one mutation, from a fixed
seed: flipped bits, truncation, foreign content, or entries of a wrong type, size or name. Each is
read in a process of its own. An input is held if it is refused by an error or a reject that names
it, or if it is read in full with finite numbers. It is not held if a bare exception, a crash, a
signal, more than 60 s of processor time or 2 GiB of further memory come of it; for TFRecord, whose
records have checksums, also if a changed bit changes what is read.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import random
import resource
import shutil
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from planning.apps.workcell import read_limits
from planning.cli.app import compose_options
from planning.cli.commands import is_refusal
from tests.worldmodel.data.other_layouts import write_lerobot, write_rlds
from worldmodel.atomic_io import write_json
from worldmodel.checkpoints.io import save
from worldmodel.checkpoints.loading import load_any
from worldmodel.data.episode import Episode
from worldmodel.data.pictures import read_picture
from worldmodel.data.readers.layouts import find_units, read_unit
from worldmodel.data.readers.options import ReadOptions
from worldmodel.data.video import VideoFrames, inspect_video
from worldmodel.data.writers.synthetic import draw_episode, random_states
from worldmodel.data.writers.video import write_video
from worldmodel.models.config import EncoderConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import VideoEncoder

SEED, DAMAGED = 0, 28
"""Seed, and number of byte mutations of a format."""
SECONDS, BYTES = 60, 2 << 30
RESULTS = Path(__file__).parent / "results" / "hostile_files.json"
HTML = b"<!DOCTYPE html><html><head><title>Log in</title></head></html>\n"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
ODD: list[Any] = [
    *(None, True, -1, 0, 10**12, 1e300, float("nan"), float("inf"), "", "x", "../../etc/passwd"),
    *([], [1], [None], {}, {"a": {}}, "\x00", "9" * 400, 10**400, [[[]]]),
]
"""Values in place of a good entry of JSON or YAML."""


@dataclasses.dataclass(frozen=True)
class Format:
    """A format with its good file, its reader and its own mutations."""

    name: str
    folder: Path
    """Folder of the good file and what belongs to it."""
    file: str
    """Path of the file that is mutated, in the folder."""
    read: Callable[[Path], object]
    """Reads a folder with the file; returns a value that can be compared."""
    own: Callable[[Path], Iterator[tuple[str, Callable[[], None]]]]
    """File -> names and functions that spoil it in place."""
    has_checksums: bool = False


def episodes_of(folder: Path) -> object:
    """Read all episodes of a data set and their first and last frames."""
    found: list[object] = []
    for unit in find_units(folder):
        for number, outcome in read_unit(unit, ReadOptions()):
            if not isinstance(outcome, Episode):
                found.append((number, outcome.reason))
                continue
            frames = outcome.camera("left").frames.read(np.array([0, len(outcome.states_TS) - 1]))
            require_finite(outcome.states_TS, outcome.times_s)
            found.append((number, outcome.states_TS.tobytes(), frames.tobytes()))
    return found


def require_finite(*arrays: np.ndarray) -> None:
    """Raise AssertionError for NaN or infinity, which a reader must not let pass."""
    for values in arrays:
        assert np.isfinite(values).all(), "not finite, and not refused"


def frames_of(folder: Path) -> object:
    """Read a video in full."""
    path = folder / "a.mp4"
    facts = inspect_video(path)
    times, _ = facts.played()
    frames = VideoFrames(path, facts.frames).read(np.arange(facts.frames))
    assert len(frames) == facts.frames
    return (len(times), frames.tobytes())


def weights_of(folder: Path) -> object:
    """Load a model; one weight of NaN is a matter of the run that wrote it."""
    model = load_any(str(folder / "model.safetensors"), "cpu")
    return sum(value.numel() for value in model.state_dict().values())


def bytes_of(path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield byte mutations of any file."""
    data, draw = path.read_bytes(), random.Random(f"{SEED} {path.name}")
    foreign = [b"", HTML, POINTER, b"\0" * len(data), b"PK\3\4" + data[4:], data + HTML, data * 2]
    for number, content in enumerate(foreign):
        yield f"foreign content {number}", lambda content=content: path.write_bytes(content)
    while number < DAMAGED - 1:
        number += 1
        changed, kind = bytearray(data), number % 4
        if kind == 0:
            changed = changed[: draw.randrange(len(data))]
        elif kind == 1:
            start = draw.randrange(len(data))
            changed[start : start + 64] = draw.randbytes(64)
        else:
            limit = len(data) if kind == 2 else min(len(data), 400)  # headers are at the front
            for _ in range(1 if kind == 2 else 3):
                changed[draw.randrange(limit)] ^= 1 << draw.randrange(8)
        kinds = ("truncated", "64 random bytes", "one bit", "three bits in the header")
        yield f"{kinds[kind]} {number}", lambda c=bytes(changed): path.write_bytes(c)


def entries(path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield mutations of a JSON object: odd values in place of every entry in turn."""
    values = json.loads(path.read_text("utf-8"))
    names = sorted(values)
    for number, odd in enumerate(ODD):
        name = names[number % len(names)]
        yield f"{name}: {str(odd)[:20]!r}", lambda n=name, o=odd: write({**values, n: o})
    deep = "[" * 100_000 + "]" * 100_000
    texts = (deep, "[]", "null", '{"a": 1, "a": 2}', "\ufeff{}", "NaN", '{"a": ' + "9" * 5000 + "}")
    for text in texts:
        yield f"JSON {text[:20]}", lambda text=text: _write_text(path, text)

    def write(changed: object) -> None:
        path.write_text(json.dumps(changed), encoding="utf-8")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def arrays(path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield mutations of the arrays of an HDF5 file."""
    names: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
        count = len(file[names[0]])
    odd: list[object] = [
        *(np.zeros((count, 99)), np.zeros(count, "S3"), np.zeros(count, complex), 3.0, "text"),
        *(np.full((count, 6), np.nan), np.zeros((0, 6)), h5py.Empty("f"), np.zeros((count, 6, 1))),
        *(h5py.SoftLink("/nowhere"), h5py.ExternalLink("/etc/passwd", "/x"), {}),
        *(np.full((count, 6), 1e38), np.zeros((count, 6), "u1"), np.arange(count) * -1.0),
    ]
    for number, value in enumerate(odd * 2):
        name = names[(number * 5) % len(names)]
        yield f"{name}: {type(value).__name__} {number}", lambda n=name, v=value: put(n, v)

    def put(name: str, value: object) -> None:
        with h5py.File(path, "a") as file:
            del file[name]
            if isinstance(value, dict):
                file.create_group(name)
            else:
                file[name] = value

    yield "declares 10^15 rows", lambda: _declare_rows(path, names[0])


def _declare_rows(path: Path, name: str) -> None:
    with h5py.File(path, "a") as file:
        del file[name]
        file.create_dataset(name, (10**15, 6), "f8", chunks=(1024, 6))


def columns(path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield mutations of the columns of a parquet file."""
    table = pq.read_table(path)
    names, rows = table.column_names, table.num_rows
    odd: list[pa.Array] = [
        pa.nulls(rows),
        pa.array(["x"] * rows),
        pa.array([[]] * rows, pa.list_(pa.float64())),
        pa.array([[float("nan")] * 7] * rows),
        pa.array([None] + [[0.0] * 7] * (rows - 1)),
        pa.array([[0.0] * (1 + i % 9) for i in range(rows)]),
        pa.array([-1] * rows),
        pa.array([2**62] * rows),
        pa.array([float("inf")] * rows),
        pa.array([{"a": 1}] * rows),
        pa.array([b"\0"] * rows),
    ]
    for number, column in enumerate(odd * 2):
        name = names[(number * 3) % len(names)]

        def put(name: str = name, column: pa.Array = column) -> None:
            pq.write_table(table.set_column(names.index(name), name, column), path)

        yield f"{name}: {column.type} {number}", put
    yield "no rows", lambda: pq.write_table(table.slice(0, 0), path)
    yield "one row", lambda: pq.write_table(table.slice(0, 1), path)
    yield "no columns", lambda: pq.write_table(table.select([]), path)
    yield "rows twice", lambda: pq.write_table(pa.concat_tables([table, table]), path)
    yield "rows reversed", lambda: pq.write_table(table.take(list(range(rows))[::-1]), path)


def headers(path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield mutations of the header of a safetensors file."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    names = sorted(name for name in header if name != "__metadata__")

    def put(changed: object, stated: int | None = None) -> None:
        text = json.dumps(changed).encode()
        path.write_bytes(struct.pack("<Q", stated or len(text)) + text + data[8 + size :])

    for number, odd in enumerate(ODD):
        key = ("shape", "dtype", "data_offsets")[number % 3]
        name = names[number % len(names)]
        changed = {**header, name: {**header[name], key: odd}}
        yield f"{key}: {str(odd)[:20]!r}", lambda c=changed: put(c)
    first = header[names[0]]
    for label, entry in (
        ("shape -1", {**first, "shape": [-1]}),
        ("shape huge", {**first, "shape": [10**12, 10**12]}),
        ("shape 1.0", {**first, "shape": [1.0]}),
        ("dtype F4096", {**first, "dtype": "F4096"}),
        ("offsets text", {**first, "data_offsets": ["0", "4"]}),
        ("offsets swapped", {**first, "data_offsets": first["data_offsets"][::-1]}),
        ("offsets beyond", {**first, "data_offsets": [0, 2**63]}),
        ("overlap", {**first, "data_offsets": header[names[1]]["data_offsets"]}),
    ):
        yield label, lambda e=entry: put({**header, names[0]: e})
    yield "stated size huge", lambda: put(header, 2**62)
    yield "stated size 1", lambda: put(header, 1)
    block = "encoder.blocks.1000000000.norm1.weight"
    yield "block 10^9", lambda: put({**header, block: header[names[0]]})
    for key in ("{}", "[]", '{"config": {"encoder": {"depth": 1000000000}}}', "\x00"):
        meta = dict.fromkeys(header.get("__metadata__", {"worldmodel": ""}), key)
        yield f"metadata {key[:12]}", lambda m=meta: put({**header, "__metadata__": m})


def chunks(path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield pictures of other modes and sizes, and broken chunks."""
    for mode in ("1", "L", "LA", "P", "PA", "I", "I;16", "F", "CMYK", "YCbCr", "HSV", "RGBA"):
        kind = "PNG" if mode in ("1", "L", "LA", "P", "I", "I;16", "RGBA") else "TIFF"

        def put(mode: str = mode, kind: str = kind) -> None:
            with io.BytesIO() as buffer:
                try:
                    Image.new(mode, (8, 8)).save(buffer, kind)
                except OSError:
                    Image.new(mode, (8, 8)).convert("RGBA").save(buffer, "PNG")
                path.write_bytes(buffer.getvalue())

        yield f"mode {mode}", put
    data = path.read_bytes()
    for label, at, value in (
        ("width 2^31", 16, b"\x7f\xff\xff\xff"),
        ("width 0", 16, b"\0\0\0\0"),
        ("height 10^6 x 10^6", 16, struct.pack(">II", 10**6, 10**6)),
        ("bit depth 3", 24, b"\3"),
        ("colour type 9", 25, b"\x09"),
        ("interlaced 7", 28, b"\7"),
    ):
        changed = data[:at] + value + data[at + len(value) :]
        yield label, lambda c=changed: path.write_bytes(c)


def boxes(path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield MP4 files whose boxes declare another size, rate, duration or orientation."""
    data = path.read_bytes()
    places = [(b"mvhd", 16), (b"tkhd", 16), (b"mdhd", 16), (b"stts", 8), (b"stsz", 8)]
    places += [(b"stco", 8), (b"stsc", 8), (b"stsd", 36), (b"moov", -4), (b"mdat", -4)]
    for box, skip in places:
        at = data.find(box)
        if at < 0:
            continue
        for value in (b"\0\0\0\0", b"\xff\xff\xff\xff"):
            start = at + 4 + skip if skip > 0 else at - 4
            changed = data[:start] + value + data[start + 4 :]
            yield f"{box.decode()} {value.hex()}", lambda c=changed: path.write_bytes(c)


def records(path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield TFRecord files with bits flipped in payload, lengths and checksums."""
    data = path.read_bytes()
    for place in (0, 3, 7, 8, 11, 12, 40, 999, 5000, len(data) // 2, len(data) - 2):
        changed = bytearray(data)
        changed[place] ^= 16
        yield f"bit of byte {place}", lambda c=bytes(changed): path.write_bytes(c)
    for length in (0, 1, 2**31, 2**62):
        changed = struct.pack("<Q", length) + data[8:]
        yield f"length {length}", lambda c=changed: path.write_bytes(c)


def settings(path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield YAML files with odd values, tags, aliases and keys."""
    lines = path.read_text("utf-8").splitlines()
    keys = [i for i, line in enumerate(lines) if ":" in line and not line.startswith(("#", " "))]
    for number, odd in enumerate(ODD):
        at = keys[number % len(keys)]
        name = lines[at].partition(":")[0]
        changed = [*lines[:at], f"{name}: {json.dumps(odd)}", *lines[at + 1 :]]
        yield f"{name}: {str(odd)[:20]!r}", lambda c=changed: _write_text(path, "\n".join(c))
    bomb = "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(9))
    for text in (
        "!!python/object/apply:os.system ['true']",
        *(bomb, "- 1\n- 2\n", "x", "? {a: b}\n: c", "a: *nowhere", "\t", "a: b: c", "{" * 5000),
        "_target_: os.system\n",
    ):
        yield f"YAML {text[:20]!r}", lambda text=text: _write_text(path, text)


def formats(root: Path) -> list[Format]:
    """Write the good files and return the formats."""
    states = [random_states(24, seed) for seed in range(2)]
    draw_episode(root / "droid", "e0", states[0], size=(36, 48), cameras=("left",))
    write_rlds(root / "rlds", states)
    write_lerobot(root / "lerobot", states, "v2.1")
    write_lerobot(root / "lerobot3", states, "v3.0")
    for name in ("video", "picture", "weights", "limits", "recipe"):
        (root / name).mkdir()
    frames = np.random.default_rng(SEED).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
    write_video(root / "video" / "a.mp4", frames)
    Image.fromarray(frames[0]).save(root / "picture" / "a.png")
    config = EncoderConfig(image_size=(32, 32), embed_dim=24, depth=1, num_heads=2)
    save(root / "weights" / "model.safetensors", VideoEncoder.of(VisionTransformer(config)))
    for name, source in (("limits", "robot/twin.yaml"), ("recipe", "train/smoke.yaml")):
        shutil.copy(Path(__file__).parents[1] / "configs" / source, root / name / "a.yaml")
    episode = next((root / "droid").rglob("trajectory.h5")).relative_to(root / "droid")
    metadata = next((root / "droid").rglob("metadata_*.json")).relative_to(root / "droid")
    movie = next((root / "droid").rglob("*.mp4")).relative_to(root / "droid")
    table = min((root / "lerobot" / "data").rglob("*.parquet")).relative_to(root / "lerobot")
    listed = next((root / "lerobot3" / "meta" / "episodes").rglob("*.parquet"))

    def recipe_of(folder: Path) -> object:
        return str(compose_options("train", [f"recipe={folder}/a.yaml"]))

    def data_set(name: str, folder: str, file: object, own: Any) -> Format:
        return Format(name, root / folder, str(file), episodes_of, own)

    return [
        data_set("HDF5 (DROID)", "droid", episode, arrays),
        data_set("JSON (DROID metadata)", "droid", metadata, entries),
        data_set("MP4 (DROID)", "droid", movie, boxes),
        data_set("parquet (LeRobot rows)", "lerobot", table, columns),
        data_set(
            "parquet (LeRobot v3.0 list)",
            "lerobot3",
            listed.relative_to(root / "lerobot3"),
            columns,
        ),
        data_set("JSON (LeRobot info)", "lerobot", "meta/info.json", entries),
        data_set("JSON (features.json)", "rlds", "features.json", entries),
        dataclasses.replace(
            data_set("TFRecord (RLDS)", "rlds", "droid-train.tfrecord-00000-of-00001", records),
            has_checksums=True,
        ),
        Format("safetensors", root / "weights", "model.safetensors", weights_of, headers),
        Format("MP4", root / "video", "a.mp4", frames_of, boxes),
        Format(
            "PNG", root / "picture", "a.png", lambda f: read_picture(f / "a.png").tobytes(), chunks
        ),
        Format(
            "YAML (limits)",
            root / "limits",
            "a.yaml",
            lambda f: str(read_limits(str(f / "a.yaml"))),
            settings,
        ),
        Format("YAML (recipe)", root / "recipe", "a.yaml", recipe_of, settings),
    ]


def judged(read: Callable[[Path], object], folder: Path) -> tuple[str, object]:
    """Read in a child process; return `refused`, `read` or the fault, and what was read."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.close(ours)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
        try:
            answer: tuple[str, object] = ("read", read(folder))
        except Exception as error:  # noqa: BLE001 - every kind of failure is counted
            kind = "refused" if is_refusal(error) else "bare"
            answer = (kind, f"{type(error).__name__}: {error}"[:300])
        with os.fdopen(theirs, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    if status or not data:
        return "crash", f"exit status {os.waitstatus_to_exitcode(status)}"
    found: tuple[str, object] = pickle.loads(data)
    return found


def records_unchanged(found: object, good: object) -> bool:
    """Return whether every record that was accepted is one of the good file's."""
    assert isinstance(found, list)
    assert isinstance(good, list)
    contents = {record[1:] for record in good}
    return all(len(record) == 2 or record[1:] in contents for record in found)


def attack(kind: Format, work: Path) -> Iterator[tuple[str, str, object]]:
    """Yield name, verdict and detail of each mutation of a format."""
    verdict, good = judged(kind.read, kind.folder)
    assert verdict == "read", (kind.name, good)
    path = kind.folder / kind.file
    before = path.read_bytes()
    for name, spoil in (*bytes_of(path), *kind.own(path)):
        path.write_bytes(before)
        spoil()
        folder = work / "input"
        shutil.copytree(kind.folder, folder)
        verdict, detail = judged(kind.read, folder)
        if verdict == "read" and kind.has_checksums and not records_unchanged(detail, good):
            verdict = "silent"
        if verdict == "read":
            rejects = [r for r in detail if len(r) == 2] if isinstance(detail, list) else []
            verdict, detail = ("refused", rejects) if rejects else ("read", "")
        shutil.rmtree(folder)
        yield name, verdict, detail
    path.write_bytes(before)


def main() -> int:
    """Attack every format, print the table and write the results."""
    torch.set_num_threads(1)
    rows, faults = [], []
    with tempfile.TemporaryDirectory() as temporary:
        root, work = Path(temporary) / "good", Path(temporary) / "work"
        work.mkdir()
        for kind in formats(root):
            counts: Counter[str] = Counter()
            for name, verdict, detail in attack(kind, work):
                counts[verdict] += 1
                if verdict not in ("refused", "read"):
                    faults.append([kind.name, name, verdict, str(detail)])
                    print("NOT HELD", *faults[-1], flush=True)
            rows.append({"format": kind.name, "inputs": counts.total(), **counts})
            print(f"{kind.name:30s} {counts.total():4d} inputs: {dict(counts)}", flush=True)
    total = sum(row["inputs"] for row in rows)
    summary = {"inputs": total, "held": total - len(faults), "formats": rows, "not_held": faults}
    write_json(RESULTS, summary)
    print(f"{total} inputs, {total - len(faults)} held: {RESULTS}")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
