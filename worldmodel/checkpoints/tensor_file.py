"""Read published weight files without running code in them or copying tensors twice.

Torch archives are memory-mapped and read with torch's restricted unpickler, which allows only
tensors and plain containers; tensors of safetensors files are copied directly to their destination.
"""

from __future__ import annotations

import contextlib
import math
import pickle
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from worldmodel.errors import CheckpointError

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
MAGIC_ZIP = b"PK"
LFS_POINTER = b"version https://git-lfs"
TEXT = frozenset(b"\t\n\r" + bytes(range(32, 127)))
"""Bytes of a text file; no weight file begins with 64 of them."""


def refuse_stand_ins(path: Path) -> None:
    """Refuse what often lies in the place of a weight file.

    Raises:
        CheckpointError: The file is missing, no regular file, empty, a Git LFS pointer, a web page
            or another text file, or a torch file with the name of a safetensors file.
    """
    if not path.is_file():
        problem = "is not a regular file" if path.exists() else "does not exist"
        raise CheckpointError(f"{path} {problem}: give the path of a weights file")
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise CheckpointError(f"{path} is empty: download the file again")
    if start.startswith(LFS_POINTER):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the file: run `git lfs pull`")
    if start.lstrip().startswith(b"<"):
        raise CheckpointError(f"{path} is a web page, not a model: download the file again")
    if path.suffix == ".safetensors" and start.startswith(MAGIC_ZIP):
        raise CheckpointError(f"{path} is a torch file, not safetensors: rename it to end in .pt")
    if all(byte in TEXT for byte in start):
        raise CheckpointError(
            f"{path} is a text file that begins with {start[:40].decode()!r}, not a model: "
            "download the file again"
        )


def is_safetensors(path: Path) -> bool:
    """Return whether a file starts like safetensors: a length, then a JSON object."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and not start.startswith(MAGIC_ZIP)


def verify_weights(path: Path) -> None:
    """Check that a file is a whole archive, by its own checksums, or a whole safetensors file.

    A torch archive holds a CRC-32 of every tensor, so a changed bit is found. Files of torch's old
    format have no marked end and are only checked for stand-ins.

    Raises:
        CheckpointError: The file is a stand-in, its end is missing, or a tensor is damaged.
    """
    refuse_stand_ins(path)
    with path.open("rb") as file:
        is_archive = file.read(2) == MAGIC_ZIP
    if is_archive:
        _verify_archive(path)
    if is_safetensors(path):
        with opened(path):
            pass


def _verify_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise CheckpointError(
            f"{path} is an archive without its end, or damaged ({error}): download the file again"
        ) from error
    if damaged is not None:
        raise CheckpointError(
            f"{path} is damaged: the checksum of {damaged} in it differs. Download the file again"
        )


def read_torch(path: Path) -> dict[str, Any]:
    """Return the top level of a torch file; its tensors are memory-mapped.

    Raises:
        CheckpointError: The file is damaged, is not a torch file, or would run code.
    """
    refuse_stand_ins(path)
    if path.suffix == ".safetensors":  # torch would read it with that library
        raise CheckpointError(f"{path} is damaged or not a safetensors file: download it again")
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=_can_map(path))
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from error
    except (
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        MemoryError,
        OverflowError,
        RecursionError,
        AssertionError,
    ) as error:
        raise _damaged(path, error) from error
    if not isinstance(loaded, dict):
        raise CheckpointError(
            f"{path} holds a {type(loaded).__name__}, not a dictionary of parts: it is not a "
            "published V-JEPA checkpoint"
        )
    return loaded


def _numpy_scalars() -> list[Any]:
    """Return the safe constructors of losses and epochs saved as NumPy scalars."""
    scalar = numpy.float64(0).__reduce__()[0]
    kinds = [type(numpy.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")]
    return [numpy.dtype, *kinds, scalar, (scalar, "numpy.core.multiarray.scalar")]


def _can_map(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False  # torch's old format; such files are small
    with zipfile.ZipFile(path) as archive:
        return all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())


def _refused(path: Path, error: Exception) -> CheckpointError:
    text = str(error)
    if "GLOBAL" in text or "Unsupported" in text or "allowlist" in text:
        lines = [line.strip() for line in text.splitlines()]
        reason = next((line for line in lines if "GLOBAL" in line or "Unsupported" in line), "")
        return CheckpointError(
            f"{path} would run code when unpickled and was refused before anything ran ({reason}). "
            "Only tensors and plain containers are read: download the file from its publisher, or "
            "save its tensors with safetensors"
        )
    return _damaged(path, error)


def _damaged(path: Path, error: Exception) -> CheckpointError:
    first = (str(error) or type(error).__name__).splitlines()[0]
    return CheckpointError(f"{path} is damaged or not a torch file ({first}): download it again")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[safe_open]:
    """Open a safetensors file; library errors become a CheckpointError."""
    refuse_stand_ins(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged or incomplete ({error}): download it again"
        ) from error


class SafetensorsFile:
    """Tensors of one or several safetensors files, read one at a time.

    Args:
        paths: The files, which together hold each tensor once.

    Raises:
        CheckpointError: A file is damaged or incomplete, a tensor is not float32, float16 or
            bfloat16, has no elements, or two files hold a tensor of the same name.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._paths: dict[str, Path] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._dtypes: dict[str, torch.dtype] = {}
        for path in paths:
            with opened(path) as file:
                for name in file.keys():  # noqa: SIM118 - the file is not a mapping
                    tensor = file.get_slice(name)
                    self._add(path, name, tensor.get_dtype(), tuple(tensor.get_shape()))

    def _add(self, path: Path, name: str, kind: str, shape: tuple[int, ...]) -> None:
        if name in self._paths:
            raise CheckpointError(
                f"Both {self._paths[name].name} and {path.name} in {path.parent} hold tensor "
                f"{name!r}: keep the files of one checkpoint only"
            )
        if kind not in DTYPES:
            raise CheckpointError(
                f"{path}: tensor {name!r} is {kind}; weights are one of {', '.join(DTYPES)}"
            )
        if 0 in shape:
            raise CheckpointError(f"{path}: tensor {name!r} of shape {list(shape)} has no elements")
        self._paths[name], self._dtypes[name] = path, DTYPES[kind]
        self._shapes[name] = shape

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all tensors."""
        return tuple(self._paths)

    def path_of(self, name: str) -> Path:
        """Return the file that holds a tensor."""
        return self._paths[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self._shapes[name]

    def num_bytes(self, name: str) -> int:
        """Return the size of a tensor in its file."""
        return math.prod(self._shapes[name]) * self._dtypes[name].itemsize

    def read_into(self, name: str, out: Tensor) -> None:
        """Copy a tensor into `out`, a float32 tensor of the same shape.

        Raises:
            CheckpointError: The file became damaged after it was opened.
        """
        # Map each tensor separately: pages read from one lasting mapping would add up to a
        # second copy of the file in memory.
        with opened(self._paths[name]) as file:
            out.copy_(file.get_tensor(name))
