"""Read the `key=value` words of a script's command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def read_words(
    words: Iterable[str], defaults: Mapping[str, str], required: Iterable[str] = ()
) -> dict[str, str]:
    """Return all options as text, with the given words in place of the defaults.

    Args:
        words: Words of the command line; the last one of a key counts.
        defaults: Options that may be left out, with their values.
        required: Options that must have a value; they come first in the result.

    Raises:
        SystemExit: A word is not `key=value`, a key is unknown, or a required value is missing.
    """
    needed = tuple(required)
    options = dict.fromkeys(needed, "") | dict(defaults)
    for word in words:
        key, equals, value = word.partition("=")
        if key not in options:
            raise SystemExit(f"unknown option {key!r}; known: {', '.join(options)}")
        if not equals:
            raise SystemExit(f"option {key!r} has no value: write {key}=VALUE")
        options[key] = value
    missing = [f"{key}=VALUE" for key in needed if not options[key]]
    if missing:
        raise SystemExit(f"missing {' and '.join(missing)}")
    return options


def read_names(options: Mapping[str, str], key: str, known: Iterable[str]) -> list[str]:
    """Return the names in an option's comma-separated list: `all` is every known one.

    Raises:
        SystemExit: A name is unknown.
    """
    allowed = list(known)
    if options[key] == "all":
        return allowed
    names = [name for name in options[key].split(",") if name]
    unknown = sorted({*names} - {*allowed})
    if unknown:
        raise SystemExit(f"unknown {key} {unknown}; known: all, {', '.join(allowed)}")
    return names
