"""Nested options and records as flat lists: `{"loop": {"steps": 3}}` is `loop.steps` -> 3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


def dotted(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the values of nested mappings by their dotted names, in order."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
