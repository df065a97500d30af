"""Ranges of settings: declared in the metadata of dataclass fields, checked on construction."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from robot.errors import ConfigError

SHOWN = 100
"""Maximum length of a value in a message, in characters."""


def shown(value: object) -> str:
    """Return a value as a message shows it: one short line, whatever it is."""
    try:
        text = repr(value)
    except ValueError:  # Python does not print integers of more than 4300 digits
        text = "an integer of more than 4300 digits"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def between(low: float, high: float, unit: str = "") -> dict[str, float | str]:
    """Return field metadata for numbers from `low` to `high`, inclusive."""
    return {"min": low, "max": high, "unit": unit}


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def check_ranges(settings: Any, error: type[Exception] = ConfigError) -> None:
    """Check every field: its type, a `Literal` against its choices, numbers against their range.

    NaN and infinity are never in range.

    Args:
        settings: A dataclass.
        error: The exception to raise.

    Raises:
        ConfigError: A field is invalid; the message names it, its value and the valid values.
    """
    kind: Any = type(settings)
    hints = _hints(kind)
    for item in dataclasses.fields(settings):
        try:
            _check(item.name, getattr(settings, item.name), hints[item.name], item.metadata)
        except ConfigError as found:
            raise error(str(found)) from None


def check_number(name: str, value: object, limits: Mapping[str, float | str]) -> None:
    """Check a number that is not a field against a range of `between`.

    Raises:
        ConfigError: It is not a number, not finite, or out of its range.
    """
    _check_number(name, value, whole=False, limits=limits)


def _check(name: str, value: object, hint: object, limits: Mapping[str, Any]) -> None:
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


def _check_tuple(name: str, values: object, kinds: tuple[Any, ...], limits: Any) -> None:
    if not isinstance(values, tuple) or (kinds[-1] is not ... and len(values) != len(kinds)):
        count = "" if kinds[-1] is ... else f" of {len(kinds)} values"
        raise ConfigError(f"{name}={shown(values)}; allowed: a list{count}")
    for i, value in enumerate(values):
        _check(f"{name}[{i}]", value, kinds[0], limits)


def _check_number(name: str, value: Any, whole: bool, limits: Mapping[str, Any]) -> None:
    low, high = limits.get("min", -math.inf), limits.get("max", math.inf)
    is_number = isinstance(value, numbers.Integral if whole else numbers.Real)
    # NaN fails every comparison; math.isfinite would overflow on large integers.
    if is_number and not isinstance(value, bool) and low <= value <= high and abs(value) < math.inf:
        return
    unit = f" {limits['unit']}" if limits.get("unit") else ""
    what = "an integer" if whole else "a finite number"
    raise ConfigError(f"{name}={shown(value)}; allowed: {what} from {low:g} to {high:g}{unit}")
