"""Read other people's weight files: nothing in them is ever run, nothing is held twice.

Torch archives are memory-mapped and read with torch's restricted unpickler, which knows tensors
and plain containers only; safetensors files are read straight into their final place.
"""

from __future__ import annotations

import json
import math
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from worldmodel.errors import CheckpointError

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
MAX_HEADER_BYTES = 100_000_000
MAGIC_ZIP = b"PK"


def is_safetensors(path: Path) -> bool:
    """Whether the file begins like safetensors: a length, then a JSON object."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and not start.startswith(MAGIC_ZIP)


def read_torch(path: Path) -> dict[str, Any]:
    """Top level of a torch file; tensors lie in the file until they are touched.

    Raises:
        CheckpointError: torn, no torch file, or it asks for code to be run.
    """
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=_can_map(path))
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError, TypeError) as error:
        raise _damaged(path, error) from error
    if not isinstance(loaded, dict):
        raise CheckpointError(
            f"{path} holds a {type(loaded).__name__}, not a dictionary of parts: it is no "
            "published V-JEPA checkpoint"
        )
    return loaded


def _numpy_scalars() -> list[Any]:
    """What a loss or an epoch saved as a NumPy number needs: harmless constructors."""
    scalar = numpy.float64(0).__reduce__()[0]
    kinds = [type(numpy.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")]
    return [numpy.dtype, *kinds, scalar, (scalar, "numpy.core.multiarray.scalar")]


def _can_map(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False  # the old format of torch: small enough to be read whole
    with zipfile.ZipFile(path) as archive:
        return all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())


def _refused(path: Path, error: Exception) -> CheckpointError:
    text = str(error)
    if "GLOBAL" in text or "Unsupported" in text or "allowlist" in text:
        lines = [line.strip() for line in text.splitlines()]
        reason = next((line for line in lines if "GLOBAL" in line or "Unsupported" in line), "")
        return CheckpointError(
            f"{path} would run code when unpickled and was refused before anything ran ({reason}). "
            "Only tensors and plain containers are read: get the file from where it is "
            "published, or save its tensors with safetensors"
        )
    return _damaged(path, error)


def _damaged(path: Path, error: Exception) -> CheckpointError:
    first = (str(error) or type(error).__name__).splitlines()[0]
    return CheckpointError(f"{path} is damaged or no torch file ({first}): fetch it again")


class SafetensorsFile:
    """Names, shapes and places of the tensors in one or several safetensors files.

    Raises:
        CheckpointError: the header is torn, or the file is shorter than the header says.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.entries: dict[str, tuple[Path, torch.dtype, tuple[int, ...], int]] = {}
        for path in paths:
            self._index(path)

    def _index(self, path: Path) -> None:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
            if length > min(size - 8, MAX_HEADER_BYTES):
                raise CheckpointError(f"{path} is torn inside its header: fetch it again")
            try:
                header = json.loads(file.read(length))
            except ValueError as error:
                raise CheckpointError(f"{path} has a broken header ({error})") from error
        for name, entry in header.items():
            if name != "__metadata__":
                self._add(path, name, entry, 8 + length, size)

    def _add(self, path: Path, name: str, entry: Any, base: int, size: int) -> None:
        try:
            kind, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: tensor {name!r} is not described ({error})") from error
        if kind not in DTYPES:
            raise CheckpointError(
                f"{path}: tensor {name!r} is {kind}; weights are one of {sorted(DTYPES)}"
            )
        wanted = math.prod(shape) * DTYPES[kind].itemsize
        if start < 0 or end - start != wanted or base + end > size:
            raise CheckpointError(
                f"{path} is torn: tensor {name!r} wants bytes {base + start}..{base + end} of "
                f"{size}: fetch it again"
            )
        self.entries[name] = (path, DTYPES[kind], shape, base + start)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self.entries[name][2]

    def read_into(self, name: str, out: Tensor) -> None:
        """Fill `out` (float32, contiguous, same number of elements) with a tensor."""
        path, dtype, _, start = self.entries[name]
        place = out if dtype == out.dtype else torch.empty(out.shape, dtype=dtype)
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            view = memoryview(place.flatten().view(torch.uint8).numpy())  # type: ignore[arg-type]
            done = 0
            while done < len(view):
                count = file.readinto(view[done:])
                if not count:
                    raise CheckpointError(f"{path} ended inside tensor {name!r}: fetch it again")
                done += count
        if place is not out:
            out.copy_(place)
