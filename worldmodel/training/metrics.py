"""Metrics of a run as JSON lines and as TensorBoard events in groups train/ and val/."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from worldmodel.atomic_io import write_text

Row = dict[str, float]


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a metrics file, ignoring an incomplete last line."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


class MetricsLog:
    """JSON lines log; rows from the resumed step on are removed, so no step is logged twice."""

    def __init__(self, path: Path, resume_step: int) -> None:
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        kept = [x for x in lines if x.endswith("}") and json.loads(x)["step"] < resume_step]
        write_text(
            path, "".join(f"{x}\n" for x in kept)
        )  # atomic: a kill here must not lose the rows
        self.file = path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, float]) -> None:
        """Append a row and flush it."""
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()


class ScalarWriter(Protocol):
    """Interface of TensorBoard's SummaryWriter."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Add one value."""

    def close(self) -> None:
        """Write everything to disk and close the file."""


def open_tensorboard(out: Path) -> ScalarWriter:
    """Open an event writer in out/tensorboard."""
    from torch.utils.tensorboard import SummaryWriter

    return cast(ScalarWriter, SummaryWriter(str(out / "tensorboard")))  # type: ignore[no-untyped-call]


def write_scalars(board: ScalarWriter, step: int, train: Row, val: Row) -> None:
    """Write a step's metrics as train/NAME and val/NAME."""
    for name, value in train.items():
        if name != "step":
            board.add_scalar(f"train/{name}", value, step)
    for name, value in val.items():
        board.add_scalar(f"val/{name.removeprefix('val_')}", value, step)
