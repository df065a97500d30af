"""Validation of options and configurations: type, range and choices of every field."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from worldmodel.errors import ConfigError

Limits = Mapping[str, Any]
"""Metadata of a field: `min` and `max` limit its numbers, `unit` names their unit."""


SHOWN = 100
"""Maximum length of a value in a message, in characters."""


def shown(value: object) -> str:
    """Return a value as a message shows it: one short line, whatever it is."""
    try:
        text = repr(value)
    except ValueError:  # Python does not print integers of more than 4300 digits
        text = "an integer of more than 4300 digits"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def between(low: float, high: float, unit: str = "") -> dict[str, float | str]:
    """Return field metadata for numbers from `low` to `high`, inclusive."""
    return {"min": low, "max": high, "unit": unit}


def _check(name: str, value: object, hint: object, limits: Limits) -> None:
    origin, kinds = get_origin(hint), get_args(hint)
    if origin is Literal:
        if value not in kinds:
            raise ConfigError(f"{name}={shown(value)}; allowed: {', '.join(map(str, kinds))}")
    elif origin is tuple:
        _check_tuple(name, value, kinds, limits)
    elif origin in (Union, types.UnionType):
        if value is not None:
            _check(name, value, kinds[0], limits)
    elif hint in (int, float):
        _check_number(name, value, hint is int, limits)
    elif hint in (str, bool) and not isinstance(value, hint):
        raise ConfigError(
            f"{name}={shown(value)}; allowed: {'text' if hint is str else 'true, false'}"
        )


def _check_tuple(name: str, values: object, kinds: tuple[Any, ...], limits: Limits) -> None:
    if not isinstance(values, tuple) or (kinds[-1] is not ... and len(values) != len(kinds)):
        count = "" if kinds[-1] is ... else f" of {len(kinds)}"
        raise ConfigError(f"{name}={shown(values)}; allowed: a tuple{count}")
    for i, value in enumerate(values):
        _check(f"{name}[{i}]", value, kinds[0], limits)


def _check_number(name: str, value: object, whole: bool, limits: Limits) -> None:
    if isinstance(value, int if whole else (int, float)) and not isinstance(value, bool):
        low, high = limits.get("min", -math.inf), limits.get("max", math.inf)
        # NaN fails every comparison; math.isfinite would overflow on large integers.
        if low <= value <= high and abs(value) < math.inf:
            return
    allowed = ["an integer" if whole else "a finite number"]
    bounds = {"min": "at least", "max": "at most"}
    allowed += [f"{words} {limits[key]:g}" for key, words in bounds.items() if key in limits]
    unit = f" [{limits['unit']}]" if limits.get("unit") else ""
    raise ConfigError(f"{name}={shown(value)}; allowed: {', '.join(allowed)}{unit}")


class Checked:
    """Base class of options and configurations, which are frozen dataclasses.

    Every field is checked on construction: its type, a `Literal` against its choices, and a
    number, or each number of a tuple, against the `min` and `max` of the field's metadata.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[object]]]
    owner: ClassVar[str] = ""
    """Prefix of field names in messages; empty for options."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: A field is invalid; the message names the field, its value and the valid
                values.
        """
        kind: Any = type(self)
        for item in dataclasses.fields(self):
            name = f"{self.owner} {item.name}".strip()
            _check(name, getattr(self, item.name), _hints(kind)[item.name], item.metadata)
