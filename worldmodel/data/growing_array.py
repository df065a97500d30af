"""A .npy file that grows along its first axis."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO

import numpy as np

from worldmodel.errors import DataError


class GrowingArray:
    """An appendable .npy file; `close` writes the number of rows into the header."""

    def __init__(self, path: Path) -> None:
        self.file: IO[bytes] = path.open("wb")
        self.rows = 0
        self.digest = hashlib.sha256()
        self.shape: tuple[int, ...] = ()
        self.dtype = np.dtype(np.uint8)

    def _write_header(self) -> None:
        facts = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.rows, *self.shape),
        }
        np.lib.format.write_array_header_1_0(self.file, facts)

    def add(self, array: np.ndarray) -> None:
        """Append rows.

        Raises:
            DataError: Their shape differs from that of the first rows.
        """
        if not self.rows:
            self.shape, self.dtype = array.shape[1:], array.dtype
            self._write_header()
        if array.shape[1:] != self.shape:
            raise DataError(
                f"Rows of shape {array.shape[1:]} follow rows of shape {self.shape}: the episodes "
                "of one data set must have states and actions of one size"
            )
        data = np.ascontiguousarray(array).tobytes()
        self.file.write(data)
        self.digest.update(data)
        self.rows += len(array)

    def close(self) -> None:
        """Write the header with the number of rows, and close the file."""
        self.file.seek(0)  # the header reserves space for the number of rows
        self._write_header()
        self.file.close()
