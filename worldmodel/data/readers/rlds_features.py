"""Decode RLDS records as `features.json` describes them, without TensorFlow.

The NumPy parser of tensorflow-datasets does the work. It imports the module of any class that
features.json names, so only its own classes are allowed, checked before it sees the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from worldmodel.data.episode import EpisodeError
from worldmodel.data.files import Links, read_json
from worldmodel.errors import DataError

NAME_KEYS = {"type", "pythonClassName", "python_class_name"}
"""Keys under which features.json names classes, in its present and its earlier form."""


def describe(folder: Path, links: Links = "inside") -> Any | None:
    """Return tensorflow-datasets' parser for the folder's features.json, or None without it.

    Raises:
        DataError: features.json cannot be read, or names a class that is not one of
            tensorflow-datasets' own features.
    """
    try:
        facts = (folder / "features.json").stat()
    except OSError:
        return None
    return _parser(folder, (facts.st_mtime_ns, facts.st_size), links)


@lru_cache(maxsize=8)
def _parser(folder: Path, stamp: tuple[int, int], links: Links) -> Any:
    from tensorflow_datasets.core import example_parser, features

    path = folder / "features.json"
    try:
        described = read_json(path, folder, links=links, reason="features")
        foreign = sorted(set(_class_names(described)) - _own_classes())
        if foreign:
            raise DataError(
                f"{path} names the class {foreign[0][:200]!r}, whose module would be imported; "
                "allowed: the features of tensorflow_datasets. Remove the file to read the records "
                "by their own keys"
            )
        made = features.FeatureConnector.from_json(described)
        return example_parser.ExampleParserNp(made.get_serialized_info())
    except EpisodeError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    except DataError:
        raise
    except Exception as error:  # tensorflow-datasets raises errors of any kind on a wrong file
        raise DataError(
            f"{path} does not describe the records ({str(error)[:500] or repr(error)}): download "
            "it again, or remove it to read the records by their own keys"
        ) from error


def _own_classes() -> set[str]:
    """Return the names of tensorflow-datasets' own features, with their former names."""
    from tensorflow_datasets.core import features

    names: set[str] = set()
    for kind in vars(features).values():
        if isinstance(kind, type) and issubclass(kind, features.FeatureConnector):
            names |= {f"{kind.__module__}.{kind.__name__}", *kind.__dict__.get("ALIASES", ())}
    return {name for name in names if name.startswith("tensorflow_datasets.core.features.")}


def _class_names(value: object) -> Iterator[str]:
    """Yield every class name in a description, also in JSON that is stored as text in it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in NAME_KEYS and isinstance(inner, str):
                yield inner
            else:
                yield from _class_names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _class_names(inner)
    elif isinstance(value, str) and value.lstrip()[:1] in {"{", "["}:
        try:
            inside = json.loads(value)
        except (ValueError, RecursionError):
            return
        yield from _class_names(inside)


def _flat(nested: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def decode_record(data: bytes, folder: Path, links: Links = "inside") -> dict[str, Any]:
    """Return a record's values by `path/of/the/feature`: arrays, or bytes for texts and images.

    Raises:
        EpisodeError: The record is damaged or does not match features.json.
        DataError: features.json cannot be read.
    """
    from tensorflow_datasets.proto import tf_example_pb2

    parser = describe(folder, links)
    try:
        if parser is not None:
            return dict(_flat(parser.parse_example(data)))
        found = tf_example_pb2.Example.FromString(data).features.feature
    except Exception as error:  # the parser raises errors of any kind on a damaged record
        raise EpisodeError(
            "record_damaged",
            f"it cannot be parsed, or is not as features.json describes it: {str(error)[:500]!r}",
        ) from error
    kinds = ("bytes_list", "float_list", "int64_list")
    lists = {
        key: next((getattr(v, k).value for k in kinds if v.HasField(k)), ())
        for key, v in found.items()
    }
    return {key: list(values) for key, values in lists.items()}
