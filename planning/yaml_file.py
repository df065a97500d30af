"""Read a YAML file of settings, with every value as YAML reads it and as it is written.

A file is refused before it is built if it is not a regular file, too large, too deep, or grows too
large by its own aliases.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from planning.errors import PlanError

Tree = dict[str, object]
"""Nested values by name."""
NO_LINES = "it has no `key: value` lines"
MAX_BYTES, MAX_NODES, MAX_DEPTH = 1_000_000, 10_000, 32
"""Limits of a file: its size, its values with aliases expanded, and its nesting."""


@dataclass(frozen=True)
class Scalar:
    """A value as YAML reads it and as it is written."""

    value: object
    text: str

    def __str__(self) -> str:
        return self.text


def read_yaml(path: Path) -> Tree:
    """Read a file; the leaves of the tree are `Scalar`s and lists of them.

    Raises:
        PlanError: The file cannot be read, or has no `key: value` lines; the message is the reason,
            without the path.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would hang
            raise PlanError("not a file")
        if path.stat().st_size > MAX_BYTES:
            raise PlanError(f"larger than {MAX_BYTES} bytes")
        text = path.read_text(encoding="utf-8-sig")
        _check_size(yaml.compose(text, Loader=yaml.SafeLoader))
        tree = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
        written = yaml.load(text, Loader=yaml.BaseLoader)
    except RecursionError as error:
        raise PlanError("nested too deeply") from error
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise PlanError(" ".join(str(error).split())) from error
    if not isinstance(tree, dict):
        raise PlanError(NO_LINES)
    return {str(key): _scalars(value, _part(written, str(key))) for key, value in tree.items()}


def values_of(tree: object) -> object:
    """Return the values of a tree as YAML reads them."""
    if isinstance(tree, dict):
        return {key: values_of(part) for key, part in tree.items()}
    if isinstance(tree, list):
        return [values_of(part) for part in tree]
    return tree.value if isinstance(tree, Scalar) else tree


def _check_size(root: yaml.Node | None) -> None:
    """Count a file's nodes, each alias as often as it is used.

    Raises:
        PlanError: There are no keys, too many nodes, or they are too deep.
    """
    if not isinstance(root, yaml.MappingNode):
        raise PlanError(NO_LINES)
    todo: list[tuple[yaml.Node, int]] = [(root, 0)]
    count = 0
    while todo:
        node, depth = todo.pop()
        count += 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            raise PlanError(f"more than {MAX_NODES} values, or nested deeper than {MAX_DEPTH}")
        if isinstance(node, yaml.MappingNode):
            todo += [(part, depth + 1) for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            todo += [(part, depth + 1) for part in node.value]


def _part(written: object, key: str) -> object:
    """Return the part of a file's texts under a key; None for keys that YAML's `<<` merged in."""
    return written.get(key) if isinstance(written, dict) else None


def _scalars(value: object, written: object) -> object:
    """Pair every leaf of a file's values with its text."""
    if isinstance(value, dict):
        return {str(key): _scalars(part, _part(written, str(key))) for key, part in value.items()}
    if isinstance(value, list):
        texts = written if isinstance(written, list) else [None] * len(value)
        return [_scalars(part, text) for part, text in zip(value, texts, strict=True)]
    return Scalar(value, written if isinstance(written, str) else str(value))
