"""Rejected items in an HDF5 file of results, one row each.

A row is appended for each item. One attribute with all reasons would have to be rewritten for each,
and HDF5 keeps every former text in the file, whose size would grow with the square of their number.
"""

from __future__ import annotations

import json

import h5py

from worldmodel.perception.hdf5_file import reserved

ROWS, FORMER = "rejects", "rejected"
"""Data set of the rows, each the JSON text of an item's number, name and reason; and attribute of
older files, the JSON text of an object from name to reason."""


class Rejects:
    """Items without results, and the reasons.

    Args:
        file: File of results, open for writing.
        done: Number of items that the file counts as done; a row of a later item is what an
            interrupted run left, and is overwritten.

    Raises:
        ValueError: The file holds something else under these names.
    """

    def __init__(self, file: h5py.File, done: int) -> None:
        self.file, self.rows = file, 0
        self.reasons: dict[str, str] = json.loads(file.attrs.get(FORMER, "{}"))
        """Item -> reason."""
        if ROWS in file:
            if file[ROWS].maxshape != (None,):
                raise ValueError(f"{ROWS} has the shape {file[ROWS].maxshape}")
            for number, name, reason in map(json.loads, file[ROWS].asstr()[:]):
                if number < done:
                    self.rows += 1
                    self.reasons[name] = reason
        if not all(isinstance(reason, str) for reason in self.reasons.values()):
            raise ValueError("a reason is not text")

    def add(self, number: int, name: str, reason: str) -> None:
        """Append an item.

        Args:
            number: Place of the item in the list.
            name: Name of the item.
            reason: Why it has no results.
        """
        text = json.dumps([number, name, reason])
        with reserved(self.file, len(text)):
            if ROWS not in self.file:
                self.file.create_dataset(ROWS, (0,), h5py.string_dtype(), maxshape=(None,))
            self.file[ROWS].resize((self.rows + 1,))
            self.file[ROWS][self.rows] = text
        self.rows += 1
        self.reasons[name] = reason
