"""Convert option values from command-line words or YAML to the types of their fields.

Text is taken literally: for a `str` field everything after `=` is the value, less one pair of
surrounding quotes. Numbers must be finite and inside the field's declared range.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, get_args, get_origin

from planning.cli.fields import Option, UsageError, choices, unwrap_optional

V = TypeVar("V")
TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
NONE = ("none", "null", "")


class _MismatchError(ValueError):
    """A value does not match its field's type; the message states the valid values."""


def split_words(text: str) -> list[str]:
    """Split at commas outside quotes and brackets."""
    parts, depth, quote, begin = [], 0, "", 0
    for i, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and text[i - 1] != "\\" else quote
        elif letter in "'\"" and not text[begin:i].strip():
            quote = letter
        elif letter in "[]()":
            depth += 1 if letter in "[(" else -1
        elif letter == "," and depth <= 0:
            parts.append(text[begin:i])
            begin = i + 1
    return [*parts, text[begin:]]


def unquote(text: str) -> str:
    """Remove one pair of quotes around the whole text; other quotes are kept."""
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"":
        return text
    quote, inner = text[0], text[1:-1]
    if re.search(rf"(?<!\\){quote}", inner) or inner.endswith("\\"):
        return text
    return inner.replace(f"\\{quote}", quote)


def read_text(option: Option, text: str) -> object:
    """Convert the text after `=` into the value of an option.

    Raises:
        UsageError: The text does not match the option's type, or the value is invalid.
    """
    try:
        return _checked(option, _from_text(option.kind, text))
    except _MismatchError as error:
        raise _refusal(option, text, str(error)) from error


def check(option: Option, value: object) -> object:
    """Convert a plain value from YAML or Hydra, and check its choices and range.

    Raises:
        UsageError: The value has the wrong type, is not finite, or is out of range.
    """
    try:
        return _checked(option, value)
    except _MismatchError as error:
        raise _refusal(option, plain_text(value), str(error)) from error


def _checked(option: Option, value: object) -> object:
    found = _from_plain(option.kind, value)
    for number in found if isinstance(found, list | tuple) else [found]:
        _check_number(option, number)
    return found


def _refusal(option: Option, shown: str, allowed: str) -> UsageError:
    inside = "" if choices(option.kind) else allowed_range(option)
    if inside and inside not in allowed:
        allowed = f"{allowed}, {inside}"
    return UsageError(f"{option.name}={shown} is not allowed. Allowed: {allowed}.")


def plain_text(value: object) -> str:
    """Format a value as written on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(plain_text(part) for part in value)}]"
    return "null" if value is None else str(value)


def allowed_range(option: Option) -> str:
    """Describe the range of an option; empty if it declares none."""
    low, high, unit = option.low, option.high, f" {option.unit}" if option.unit else ""
    if low is not None and high is not None:
        return f"{low:.10g} to {high:.10g}{unit}"
    if low is not None:
        return f"{low:.10g}{unit} or more"
    return f"{high:.10g}{unit} or less" if high is not None else ""


def _check_number(option: Option, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    low = -math.inf if option.low is None else option.low
    high = math.inf if option.high is None else option.high
    # NaN fails every comparison; math.isfinite would overflow on large integers.
    if not (low <= value <= high and abs(value) < math.inf):
        raise _MismatchError(allowed_range(option) or "finite numbers")


def _from_text(kind: object, text: str) -> object:
    """Convert text as far as it has the field's type; the rest stays text, which checks refuse."""
    inner, is_optional = unwrap_optional(kind)
    if is_optional and text.lower() in NONE:
        return None
    if get_origin(inner) in (list, tuple):
        return [_from_text(part, word) for part, word in _parts(inner, _list_words(text))]
    if inner is bool and text.lower() in TRUE + FALSE:
        return text.lower() in TRUE
    if inner in (int, float):
        with contextlib.suppress(ValueError):
            return int(text) if inner is int else float(text)
    return unquote(text)


def read_number(text: str) -> object:
    """Convert text to an integer or a number; what is neither stays text."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _choice(allowed: Sequence[object], value: object) -> object:
    for choice in allowed:
        if value == choice or (isinstance(value, str) and value == plain_text(choice)):
            return choice
    raise _MismatchError(", ".join(plain_text(c) or "empty" for c in allowed))


def _list_words(text: str) -> list[str]:
    bare = text.strip()
    inside = bare[1:-1] if bare[:1] == "[" and bare[-1:] == "]" else bare
    return [word.strip() for word in split_words(inside)] if inside.strip() else []


def _parts(kind: object, values: Sequence[V]) -> list[tuple[object, V]]:
    """Pair each value of a list or tuple with its type."""
    kinds = get_args(kind)
    if get_origin(kind) is tuple and kinds[-1:] != (Ellipsis,):
        if len(values) != len(kinds):
            raise _MismatchError(f"a list of {len(kinds)} values")
        return list(zip(kinds, values, strict=True))
    return [(kinds[0], value) for value in values]


def _from_plain(kind: object, value: object) -> object:
    inner, is_optional = unwrap_optional(kind)
    if value is None and is_optional:
        return None
    if get_origin(inner) in (list, tuple):
        if not isinstance(value, list | tuple):
            raise _MismatchError("a list, for example [a,b]")
        parts = [_from_plain(part, word) for part, word in _parts(inner, value)]
        return tuple(parts) if get_origin(inner) is tuple else parts
    if choices(inner):
        return _choice(choices(inner), value)
    return _scalar(inner, value)


def _scalar(kind: object, value: object) -> object:
    if kind is bool and isinstance(value, bool):
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind in (str, Path) and isinstance(value, str | Path):
        return _text(kind, str(value))
    names = {bool: "true, false", int: "whole numbers", float: "numbers"}
    raise _MismatchError(next((text for known, text in names.items() if known is kind), "text"))


def _text(kind: object, value: str) -> object:
    if "${" in value:
        raise _MismatchError("text without ${...}, which is not evaluated")
    if "\0" in value:
        raise _MismatchError("text without zero bytes")
    return Path(value) if kind is Path else value
