"""Read tables of annotations: CSV files with a header."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from worldmodel.data.files import read_text
from worldmodel.errors import DataError

Row = dict[str, str]
"""Column -> text; empty where a line ends early."""


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """Read the rows of a CSV file that must have these columns.

    Raises:
        DataError: The file is missing, is not text, or lacks a column.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""), restval="")
        rows, names = list(reader), reader.fieldnames or []
    except csv.Error as error:
        raise DataError(f"{path} cannot be read ({error})") from error
    missing = [name for name in columns if name not in names]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; it has {', '.join(names)}")
    return rows
