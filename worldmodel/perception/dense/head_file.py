"""Files of dense heads: weights, and what is needed to use them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import nn

from worldmodel.checkpoints.container import fill, load_tensors, write_tensors
from worldmodel.checkpoints.tensor_file import opened
from worldmodel.errors import CheckpointError
from worldmodel.models.model_hash import model_hash
from worldmodel.perception.dense.config import RATES, Task
from worldmodel.perception.dense.head import DenseHead

HEAD = "head.safetensors"
"""Name of a head's file in the folder of its run."""
MAX_SIDE = 65_536
"""Maximum number of token rows or columns of a head."""


@dataclass(frozen=True)
class KnownHead:
    """A trained head, and what its file tells of it."""

    head: DenseHead
    task: Task
    encoder: str
    """Name of the encoder that it was trained on."""
    encoder_hash: str
    """Hash of that encoder in the precision of the training, see `model_hash`; empty in older
    files."""


def save_head(path: Path, head: DenseHead, task: Task, name: str, encoder: nn.Module) -> None:
    """Write a head that was trained on the tokens of an encoder of this name.

    Raises:
        CheckpointError: The write failed.
    """
    notes = {
        "task": task,
        "grid": json.dumps(head.grid),
        "scale": json.dumps(head.scale),
        "encoder": name,
        "encoder_hash": model_hash(encoder),
    }
    weights = {key: value.cpu().contiguous() for key, value in head.state_dict().items()}
    write_tensors(path, weights, notes)


def load_head(name: str) -> KnownHead:
    """Load a head from its file or from the folder of its run, for evaluation.

    Raises:
        CheckpointError: It is missing, damaged or no head of `probe dense`.
    """
    path = Path(name) / HEAD if Path(name).is_dir() else Path(name)
    with opened(path) as file:
        notes: dict[str, str] = file.metadata() or {}
    tensors = load_tensors(path)
    weight = tensors.get("linear.weight")
    if weight is None or weight.ndim != 2 or notes.get("task") not in RATES:
        raise CheckpointError(
            f"{path} is not a head of `probe dense`: train one, or give another file"
        )
    try:
        rows, columns = json.loads(notes["grid"])
        mean, deviation = (float(x) for x in json.loads(notes["scale"]))
        if not all(isinstance(n, int) and 0 < n <= MAX_SIDE for n in (rows, columns)):
            raise ValueError(f"grid {rows} x {columns}")
        if not math.isfinite(mean) or not 0 < deviation < math.inf:
            raise ValueError(f"scale {mean}, {deviation}")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} does not describe its head ({type(error).__name__}: {str(error)[:200]}): "
            "train it again"
        ) from error
    head = DenseHead(weight.shape[1], weight.shape[0], (rows, columns), (mean, deviation))
    fill({"": head}, tensors, str(path))
    task = cast(Task, notes["task"])
    return KnownHead(head.eval(), task, notes.get("encoder", ""), notes.get("encoder_hash", ""))
