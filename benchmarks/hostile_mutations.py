"""Ways to spoil a good file of each format.

Every function yields names and functions, which spoil the file in place.
"""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SEED, DAMAGED = 0, 28
"""Seed, and number of byte mutations of a format."""
HTML = b"<!DOCTYPE html><html><head><title>Log in</title></head></html>\n"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
ODD: list[Any] = [
    *(None, True, -1, 0, 10**12, 1e300, float("nan"), float("inf"), "", "x", "../../etc/passwd"),
    *([], [1], [None], {}, {"a": {}}, "\x00", "9" * 400, 10**400, [[[]]]),
]
"""Values in place of a good entry of JSON or YAML."""
Spoils = Iterator[tuple[str, Callable[[], None]]]


def bytes_of(path: Path) -> Spoils:
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


def entries(path: Path) -> Spoils:
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


def arrays(path: Path) -> Spoils:
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


def columns(path: Path) -> Spoils:
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


def headers(path: Path) -> Spoils:
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


def chunks(path: Path) -> Spoils:
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


def boxes(path: Path) -> Spoils:
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


def records(path: Path) -> Spoils:
    """Yield TFRecord files with bits flipped in payload, lengths and checksums."""
    data = path.read_bytes()
    for place in (0, 3, 7, 8, 11, 12, 40, 999, 5000, len(data) // 2, len(data) - 2):
        changed = bytearray(data)
        changed[place] ^= 16
        yield f"bit of byte {place}", lambda c=bytes(changed): path.write_bytes(c)
    for length in (0, 1, 2**31, 2**62):
        changed = struct.pack("<Q", length) + data[8:]
        yield f"length {length}", lambda c=changed: path.write_bytes(c)


def settings(path: Path) -> Spoils:
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


def lines(path: Path) -> Spoils:
    """Yield mutations of a file of JSON lines: odd values in one line after another."""
    good = path.read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in good]

    def put(number: int, text: str) -> Callable[[], None]:
        changed = [*good[:number], text, *good[number + 1 :]]
        return lambda: _write_text(path, "\n".join(changed) + "\n")

    for count, odd in enumerate(ODD):
        at = count % len(rows)
        names = sorted(rows[at]) if isinstance(rows[at], dict) else []
        if names:
            name = names[(count // len(rows)) % len(names)]
            yield (f"{at} {name}: {str(odd)[:20]!r}", put(at, json.dumps({**rows[at], name: odd})))
        yield f"line {at}: {str(odd)[:20]!r}", put(at, json.dumps(odd))
    for at in range(min(2, len(rows))):
        keys = sorted(rows[at]) if isinstance(rows[at], dict) else []
        for name in keys:
            less = {k: v for k, v in rows[at].items() if k != name}
            yield f"{at} without {name}", put(at, json.dumps(less))
    yield "a line twice", put(0, f"{good[0]}\n{good[0]}")
    yield "deep", put(len(good) - 1, "[" * 100_000)


def cells(path: Path) -> Spoils:
    """Yield mutations of a CSV file: odd cells, lines of other lengths, quotes and null bytes."""
    good = path.read_text("utf-8").splitlines()
    width = good[0].count(",") + 1
    odd = ["", "-1", "1e400", "nan", "9" * 5000, "x", '"', "\x00", "../../etc/passwd", "²", "0x10"]
    for number, cell in enumerate(odd * 3):
        at, column = (number * 2) % len(good), (number * 3) % width
        row = good[at].split(",")
        row[column % len(row)] = cell
        changed = [*good[:at], ",".join(row), *good[at + 1 :]]
        yield (
            f"line {at} cell {column}: {cell[:9]!r}",
            lambda c=changed: _write_text(path, "\n".join(c) + "\n"),
        )
    for label, text in (
        ("short line", "\n".join([*good, "x"])),
        ("long line", "\n".join([*good, "x," * 99])),
        ("cell of 200 kB", "\n".join([*good, "x" * 200_000])),
        ("header only", good[0]),
        ("header twice", "\n".join([good[0], *good])),
        ("columns twice", "\n".join(f"{line},{line}" for line in good)),
        ("lines twice", "\n".join(good * 2)),
        ("semicolons", "\n".join(good).replace(",", ";")),
        ("old line ends", "\r".join(good)),
    ):
        yield label, lambda text=text: _write_text(path, text)


def elements(path: Path) -> Spoils:
    """Yield mutations of an XML file: odd attributes, entities and nesting."""
    good = path.read_text("utf-8")
    places = [at for at in range(len(good)) if good.startswith('="', at)]
    odd = ["", "-1", "1e400", "nan", "0 0", "9" * 5000, "../../etc/passwd", "&#0;", "&lt;", "0 0 0"]
    for number, value in enumerate(odd * 3):
        at = places[(number * 5) % len(places)] + 2
        changed = good[:at] + value + good[good.index('"', at) :]
        yield f"attribute {number}: {value[:9]!r}", lambda c=changed: _write_text(path, c)
    root = good.strip()
    bomb = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9))
    name = root[1:].split()[0].split(">")[0].rstrip("/")
    inside = root.index(">") + 1
    for label, text in (
        ("entities", f'<!DOCTYPE x [<!ENTITY e0 "x">{bomb}]><{name}>&e9;</{name}>'),
        ("a file", f'<!DOCTYPE x [<!ENTITY f SYSTEM "/etc/passwd">]><{name}>&f;</{name}>'),
        ("deep", f"<{name}>" * 50_000 + f"</{name}>" * 50_000),
        ("empty root", f"<{name}/>"),
        ("include", f'{root[:inside]}<include file="/etc/passwd"/>{root[inside:]}'),
        ("huge memory", f'{root[:inside]}<size memory="999G"/>{root[inside:]}'),
        ("plugin", f'{root[:inside]}<extension><plugin plugin="x"/></extension>{root[inside:]}'),
    ):
        yield label, lambda text=text: _write_text(path, text)


def members(path: Path) -> Spoils:
    """Yield mutations of an .npz: odd arrays, and members that say another size or kind."""
    with np.load(path) as file:
        good = {name: file[name] for name in file.files}
    odd: list[np.ndarray] = [
        *(np.array(3.0), np.zeros((2, 2)), np.array("x"), np.zeros(0), np.full(3, np.nan)),
        *(np.array("{}"), np.array("null"), np.array('{"kind": "Popen", "fields": {"a": 1}}')),
        *(np.array('{"array": -1}'), np.array('{"array": 99}'), np.array("[" * 100_000)),
        np.array('{"kind": "Episode", "fields": {"dict": {}}}'),
    ]
    names = sorted(good)
    for number, value in enumerate(odd * 2):
        name = names[number % len(names)]

        def put(name: str = name, value: np.ndarray = value) -> None:
            np.savez(path, **{**good, name: value})

        yield f"{name}: {value.dtype} {value.shape} {number}", put
    header = b"\x93NUMPY\x01\x00"
    for label, text in (
        ("10^13 values", "{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000,), }"),
        ("objects", "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"),
        ("negative", "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }"),
        ("no header", "x"),
    ):
        array = header + struct.pack("<H", len(text)) + text.encode()
        yield label, lambda array=array: _zip(path, names[0], array, zipfile.ZIP_STORED)
    zeros = b"\x93NUMPY\x01\x00" + struct.pack("<H", 96)
    text = "{'descr': '|u1', 'fortran_order': False, 'shape': (4294967296,), }".ljust(96)
    yield (
        "4 GiB of zeros in few bytes",
        lambda: _zip(path, names[0], zeros + text.encode(), zipfile.ZIP_DEFLATED, 1 << 32),
    )


def _zip(path: Path, name: str, content: bytes, kind: int, zeros: int = 0) -> None:
    block = bytes(1 << 24)
    with (
        zipfile.ZipFile(path, "w", kind, compresslevel=1) as archive,
        archive.open(f"{name}.npy", "w", force_zip64=True) as file,
    ):
        file.write(content)
        for _ in range(zeros >> 24):
            file.write(block)


def attributes(path: Path) -> Spoils:
    """Yield mutations of attributes and arrays of an HDF5 file of results."""
    yield from arrays(path)
    with h5py.File(path) as file:
        owners = [("/", name) for name in file.attrs]
        file.visititems(lambda owner, item: owners.extend((owner, name) for name in item.attrs))
    for number, value in enumerate(("x", -1, np.arange(3), np.nan, h5py.Empty("f"), "{", "[1]")):
        owner, name = owners[(number * 3) % len(owners)]

        def put(owner: str = owner, name: str = name, value: object = value) -> None:
            with h5py.File(path, "a") as file:
                file[owner].attrs[name] = value

        yield f"attribute {owner} {name}: {str(value)[:9]}", put


def none(_: Path) -> Spoils:
    """Yield no mutations beside those of the bytes."""
    yield from ()
