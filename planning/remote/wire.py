"""Messages of a plan server: msgpack with NumPy arrays, as openpi's clients pack them.

An array is a map with the byte keys `__ndarray__`, `data`, `dtype` and `shape`; a NumPy scalar one
with `__npgeneric__`, `data` and `dtype`. Nothing is ever unpickled: arrays have one of `DTYPES`,
and whatever else a message holds stays plain numbers, texts, lists and maps of bounded number.

Source of the format: openpi-client 0.1.2, `msgpack_numpy` (github.com/Physical-Intelligence/openpi,
Apache-2.0).
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Mapping
from types import ModuleType
from typing import TypeAlias

import numpy as np

from planning.errors import PlanError

Message: TypeAlias = dict[str, object]

DTYPES = frozenset(
    ["|b1", "|i1", "|u1"] + [f"<{kind}{size}" for kind in "iu" for size in (2, 4, 8)]
) | {"<f2", "<f4", "<f8"}
"""Types of arrays and scalars that are read."""
MAX_DIMS = 8
MAX_LIST, MAX_MAP = 256, 256
"""Longest list and map. Together with the parser's nesting limit they bound what a message of many
small objects can take in memory."""
MAX_TEXT = 65_536
"""Longest text [bytes]."""
MAX_OBJECTS = 20_000
"""Number of values of a message beside the content of its arrays."""


def need(module: str) -> ModuleType:
    """Import a library of the extra `serve`.

    Raises:
        PlanError: It is not installed.
    """
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise PlanError(
            f"Plan servers and their clients need {module}: pip install 'worldmodel[serve]'"
        )
    return importlib.import_module(module)


def _packed(value: object) -> object:
    """Return what msgpack packs in place of a NumPy array or scalar."""
    if isinstance(value, np.ndarray | np.generic) and value.dtype.str not in DTYPES:
        raise PlanError(f"Arrays of type {value.dtype} cannot be sent. Convert them to numbers")
    if isinstance(value, np.ndarray):
        array = {b"__ndarray__": True, b"data": value.tobytes()}
        return array | {b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise PlanError(f"Values of type {type(value).__name__} cannot be sent")


def pack(message: Mapping[str, object]) -> bytes:
    """Return a message as bytes.

    Raises:
        PlanError: A value is neither plain nor an array of numbers, or msgpack is missing.
    """
    packed: bytes = need("msgpack").packb(message, default=_packed)
    return packed


class _Values:
    """Counts the values of a message while it is parsed, and turns maps into arrays."""

    def __init__(self) -> None:
        self.left = MAX_OBJECTS

    def count(self, number: int) -> None:
        self.left -= 1 + number
        if self.left < 0:
            raise PlanError(f"The message has more than {MAX_OBJECTS} values beside its arrays")

    def from_list(self, values: list[object]) -> list[object]:
        self.count(len(values))
        return values

    def from_map(self, pairs: list[tuple[object, object]]) -> object:
        self.count(len(pairs))
        found = dict(pairs)
        if b"__ndarray__" in found:
            return _array(found)
        if b"__npgeneric__" in found:
            scalar = found.get(b"data")
            if not isinstance(scalar, bool | int | float):
                raise PlanError("A scalar of the message holds no number")
            return scalar
        if not all(isinstance(key, str) for key in found):
            raise PlanError("The keys of a message's maps must be texts")
        return found


def _array(found: Mapping[object, object]) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """Return an array, read-only, after checking that its size is what its type and shape say."""
    dtype, shape, data = (found.get(key) for key in (b"dtype", b"shape", b"data"))
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise PlanError(
            f"An array of the message has dtype {str(dtype)[:40]!r}; allowed: "
            f"{', '.join(sorted(DTYPES))}"
        )
    sizes = shape if isinstance(shape, list) else [None]
    if len(sizes) > MAX_DIMS or not all(type(n) is int and 0 <= n < 2**31 for n in sizes):
        raise PlanError(
            f"An array of the message has shape {str(shape)[:60]}; allowed: whole sizes"
        )
    size = math.prod(n for n in sizes if isinstance(n, int))
    if not isinstance(data, bytes) or len(data) != size * np.dtype(dtype).itemsize:
        held = len(data) if isinstance(data, bytes) else 0
        raise PlanError(
            f"An array of the message has shape {sizes} of {dtype} and {held} bytes: they differ"
        )
    return np.frombuffer(data, dtype=dtype).reshape([n for n in sizes if isinstance(n, int)])


def unpack(data: bytes) -> Message:
    """Return the message of bytes that anybody may have sent.

    Raises:
        PlanError: It is not a map of plain values and arrays in msgpack, or exceeds a limit; or
            msgpack is missing.
    """
    msgpack, values = need("msgpack"), _Values()
    try:
        message = msgpack.unpackb(
            data,
            object_pairs_hook=values.from_map,
            list_hook=values.from_list,
            max_array_len=MAX_LIST,
            max_map_len=MAX_MAP,
            max_str_len=MAX_TEXT,
            max_ext_len=0,
        )
    except (ValueError, RecursionError, MemoryError) as error:  # msgpack's own are ValueErrors
        if isinstance(error, PlanError):
            raise
        why = str(error) or type(error).__name__
        raise PlanError(f"The message is not accepted msgpack ({why[:200]})") from error
    if not isinstance(message, dict):
        raise PlanError(f"The message is a {type(message).__name__}; allowed: a map of names")
    return message
