"""Experiment trackers that show a run's metrics while it trains: one option, `experiment=`.

`metrics.jsonl` is always written; a tracker gets the same numbers in groups `train/` and `val/`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from worldmodel.errors import ConfigError
from worldmodel.training.metrics import Row
from worldmodel.training.run_options import Experiment

PROJECT = "worldmodel"
"""Project of all runs in trackio and W&B; the run has the name of its output folder."""


class Tracker(Protocol):
    """A tracker of one run."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Record the values of a step."""

    def close(self) -> None:
        """Write everything to disk and end the run."""


class _SummaryWriter(Protocol):
    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...
    def close(self) -> None: ...


class _Run(Protocol):
    """A run of trackio or W&B, whose interfaces agree in this."""

    def log(self, data: dict[str, float], step: int) -> None: ...
    def finish(self) -> None: ...


class _Package(Protocol):
    def init(self, **settings: object) -> _Run: ...


class TensorBoard:
    """Events in `out/tensorboard`; those of a resumed run from its first step on are replaced."""

    def __init__(self, out: Path, first: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = str(out / "tensorboard")
        made = SummaryWriter(folder, purge_step=first or None)
        self.board = cast(_SummaryWriter, made)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Record the values of a step."""
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what TensorBoard still holds back."""
        self.board.close()


class OnlineTracker:
    """A run of trackio or W&B, stored on this machine; no network is needed."""

    def __init__(self, run: _Run) -> None:
        self.run = run

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Record the values of a step."""
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        """End the run, so that it is complete on disk."""
        self.run.finish()


def require_tracker(kind: Experiment) -> None:
    """Check that a tracker's package is installed, before any work is done.

    Raises:
        ConfigError: It is not; the message has the `pip install` line.
    """
    if kind != "none" and importlib.util.find_spec(kind) is None:
        raise ConfigError(
            f"experiment={kind} needs the {kind} package: pip install 'worldmodel[{kind}]'"
            if kind != "tensorboard"
            else "experiment=tensorboard needs the tensorboard package: pip install tensorboard"
        )


def open_tracker(
    kind: Experiment, out: Path, first: int, config: Mapping[str, object]
) -> Tracker | None:
    """Open the tracker of a run.

    Args:
        kind: Tracker; `none` opens none.
        out: Output folder of the run, whose name is the run's.
        first: First step, above 0 in a resumed run.
        config: Options of the run, which trackio and W&B show beside it.

    Raises:
        ConfigError: The package is not installed.
    """
    require_tracker(kind)
    if kind == "none":
        return None
    if kind == "tensorboard":
        return TensorBoard(out, first)
    package = cast(_Package, importlib.import_module(kind))
    settings: dict[str, object] = {"project": PROJECT, "name": out.name, "config": dict(config)}
    if kind == "trackio":
        settings |= {"resume": "allow", "embed": False}
    else:
        key = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]
        mode = os.environ.get("WANDB_MODE", "offline")  # W&B's own variable may ask for more
        settings |= {"dir": str(out), "id": key, "resume": "allow", "mode": mode}
    return OnlineTracker(package.init(**settings))


def grouped(train: Row, val: Row) -> dict[str, float]:
    """Return a step's metrics as train/NAME and val/NAME."""
    values = {f"train/{name}": value for name, value in train.items() if name != "step"}
    return values | {f"val/{name.removeprefix('val_')}": value for name, value in val.items()}
