"""Files of finished episodes, from which an evaluation is resumed or merged.

An episode is one `.npz`: its arrays, and as JSON everything else. Nothing in it is executed when it
is read.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.goals import SubGoal
from planning.apps.npz_file import read_npz
from planning.atomic_write import write_bytes
from planning.errors import PlanError
from planning.rollout import Episode
from planning.skill_record import Candidate, SkillRecord

KINDS: dict[str, Callable[..., Any]] = {
    kind.__name__: kind for kind in (Episode, SubGoal, SkillRecord, Candidate)
}
"""Classes that a file may name."""
Arrays = list[NDArray[Any]]
UNREADABLE = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    RecursionError,
    PlanError,
)
"""What a damaged or foreign file raises."""


def save_episode(path: Path, episode: Episode) -> None:
    """Write an episode atomically."""
    arrays: Arrays = []
    tree = json.dumps(_to_tree(episode, arrays))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, np.array(tree), *arrays)
    write_bytes(path, buffer.getvalue())


def load_episode(path: Path) -> Episode:
    """Read an episode.

    Raises:
        PlanError: The file is not a complete episode.
    """
    try:
        tree, *arrays = read_npz(path).values()
        episode = _from_tree(json.loads(str(tree)), arrays)
    except UNREADABLE as error:
        raise PlanError(f"{path} is not a complete episode: {error}.") from error
    if not isinstance(episode, Episode):
        raise PlanError(f"{path} is not a complete episode: it holds {type(episode).__name__}.")
    return episode


def _to_tree(value: object, arrays: Arrays) -> object:
    """Return JSON serialisable values; arrays are appended to a list and named by their index."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, np.generic):
        return value.item()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__, "fields": _to_tree(fields, arrays)}
    if isinstance(value, dict):
        return {"dict": {key: _to_tree(part, arrays) for key, part in value.items()}}
    if isinstance(value, list | tuple):
        parts = [_to_tree(part, arrays) for part in value]
        return {"tuple": parts} if isinstance(value, tuple) else parts
    return value


def _from_tree(tree: Any, arrays: Arrays) -> Any:
    """Return the values that `_to_tree` was given."""
    if isinstance(tree, list):
        return [_from_tree(part, arrays) for part in tree]
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        return arrays[tree["array"]]
    if "dict" in tree:
        return {key: _from_tree(part, arrays) for key, part in tree["dict"].items()}
    if "tuple" in tree:
        return tuple(_from_tree(part, arrays) for part in tree["tuple"])
    return KINDS[tree["kind"]](**_from_tree(tree["fields"], arrays))
