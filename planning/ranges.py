"""Ranges of options and settings: declared in field metadata, checked on construction."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from planning.errors import PlanError
from planning.plugins import check_name

SHOWN = 100
"""Maximum length of a value in a message, in characters."""


def shown(value: object) -> str:
    """Return a value as a message shows it: one short line, whatever it is."""
    try:
        text = repr(value)
    except ValueError:  # Python does not print integers of more than 4300 digits
        text = "an integer of more than 4300 digits"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def plugin(kind: str) -> dict[str, str]:
    """Return field metadata for a text that names an implementation of `planning.plugins`."""
    return {"plugin": kind}


def between(low: float, high: float, unit: str = "") -> dict[str, float | str]:
    """Return field metadata for a number from `low` to `high`, inclusive."""
    return {"min": low, "max": high, "unit": unit}


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def check_fields(options: Any) -> None:
    """Check every field of a dataclass: type, `Literal` choices, and the range of numbers.

    The elements of lists and tuples are checked one by one. NaN and infinity are never in range.

    Raises:
        PlanError: A value is invalid; the message names the field, the value and what is allowed.
    """
    kind: Any = type(options)
    hints = _hints(kind)
    for item in dataclasses.fields(options):
        _check(item.name, getattr(options, item.name), hints[item.name], item.metadata)


def _check(name: str, value: object, hint: object, limits: Mapping[str, Any]) -> None:
    origin, kinds = get_origin(hint), get_args(hint)
    if origin is Literal:
        if value not in kinds:
            known = ", ".join(str(c) for c in kinds if c != "")
            raise PlanError(f"{name}={shown(value)} is not available. Choose one of: {known}.")
    elif origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise PlanError(
                f"{name}={shown(value)} is not a list. Allowed: a list, for example [a, b]."
            )
        for part in value:
            _check(name, part, kinds[0], limits)
    elif origin in (Union, types.UnionType):
        if value is not None:
            _check(name, value, kinds[0], limits)
    elif hint in (int, float):
        _check_number(name, value, hint is int, limits)
    elif hint in (str, bool):
        _check_text(name, value, hint, limits)


def _check_text(name: str, value: object, kind: type, limits: Mapping[str, Any]) -> None:
    """Check a text or a truth value, and that a text names an implementation where it has to."""
    if not isinstance(value, kind):
        what = "text" if kind is str else "true, false"
        raise PlanError(f"{name}={shown(value)} has the wrong type. Allowed: {what}.")
    if limits.get("plugin"):
        check_name(name, limits["plugin"], str(value))


def _check_number(name: str, value: Any, whole: bool, limits: Mapping[str, Any]) -> None:
    low, high = limits.get("min", -math.inf), limits.get("max", math.inf)
    is_number = isinstance(value, numbers.Integral if whole else numbers.Real)
    # NaN fails every comparison; math.isfinite would overflow on large integers.
    if is_number and not isinstance(value, bool) and low <= value <= high and abs(value) < math.inf:
        return
    what = "" if is_number else "whole numbers from " if whole else "numbers from "
    unit = f" {limits['unit']}" if limits.get("unit") else ""
    raise PlanError(
        f"{name}={shown(value)} is out of range. Allowed: {what}{low:.10g} to {high:.10g}{unit}."
    )


def changed_fields(options: object, kind: type | None = None) -> list[str]:
    """Return `name=value` for every field, or every field of a base class, that is not default."""
    changed = []
    for item in dataclasses.fields(kind or options):  # type: ignore[arg-type]
        usual = item.default
        if item.default_factory is not dataclasses.MISSING:
            usual = item.default_factory()
        value = getattr(options, item.name)
        if value != usual:
            changed.append(f"{item.name}={value}")
    return changed
