"""Checks of option values: finite, in range, and one of the choices."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Literal, get_args, get_origin, get_type_hints

from worldmodel.errors import ConfigError


def check_field(name: str, value: object, low: float | None, high: float | None) -> None:
    """Check that a number, or each number of a sequence, is finite and within its range.

    Raises:
        ConfigError: The message names the option, the value and the allowed range.
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            check_field(name, item, low, high)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    allowed = [f"at least {low:g}"] if low is not None else []
    allowed += [f"at most {high:g}"] if high is not None else []
    inside = (low is None or value >= low) and (high is None or value <= high)
    if not math.isfinite(value) or not inside:
        raise ConfigError(f"{name}={value}; allowed: {' and '.join(allowed) or 'finite numbers'}")


class Checked:
    """Base of all option groups: checks ranges and choices when an object is made."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[object]]]

    def __post_init__(self) -> None:
        """Check every field against its range and its choices.

        Raises:
            ConfigError: The message names the option, the value and what is allowed.
        """
        hints = get_type_hints(type(self))
        for item in dataclasses.fields(self):
            value: object = getattr(self, item.name)
            check_field(item.name, value, item.metadata.get("min"), item.metadata.get("max"))
            choices = get_args(hints[item.name])
            if get_origin(hints[item.name]) is Literal and value not in choices:
                known = ", ".join(map(str, choices))
                raise ConfigError(f"{item.name}={value!r}; allowed: {known}")
