"""Options of a command, read from its dataclass: names, types, defaults, ranges and help.

The help of an option is the string literal under its field. It is read from the source with `ast`,
because Python discards such strings at run time.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

from planning.plugins import registered
from worldmodel.resources import config_folder


class UsageError(ValueError):
    """Invalid command line; the message states the option, its value and the valid values."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option of a command."""

    name: str
    """Dotted name, for example `planner.samples`."""
    kind: object
    """Type hint of the field."""
    default: object
    """Default value, or `dataclasses.MISSING` for a required option."""
    text: str
    """Help text: the docstring under the field."""
    low: float | None
    """Minimum value, or None."""
    high: float | None
    """Maximum value, or None."""
    unit: str
    """Unit of the value, or an empty string."""
    is_file: bool
    """Whether the value is an output file, which two runs cannot share."""
    plugin: str
    """Kind of the implementation that the value names (`planning.plugins`), or an empty string."""

    @property
    def section(self) -> str:
        """Dotted name of the nested dataclass that the option belongs to; empty at the root."""
        return self.name.rpartition(".")[0]

    @property
    def leaf(self) -> str:
        """Last part of the dotted name."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A nested dataclass among a command's options."""

    name: str
    kind: type
    text: str
    group: str
    """Configuration group whose files can set it (`configs/<group>/`), or an empty string."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """All options and sections of a command."""

    options: dict[str, Option]
    sections: dict[str, Section]

    def resolve(self, key: str, where: str) -> Option:
        """Find an option by its dotted name or by a unique short name.

        Raises:
            UsageError: The name is unknown or ambiguous.
        """
        if key in self.options:
            return self.options[key]
        found = [name for name in self.options if name.endswith(f".{key}")]
        if len(found) == 1:
            return self.options[found[0]]
        if found:
            raise UsageError(
                f"Option {key!r} {where} is ambiguous. Write one of: {', '.join(found)}."
            )
        raise UsageError(self._unknown(key, where))

    def has(self, key: str) -> bool:
        """Whether an option has this dotted or short name."""
        return any(name == key or name.endswith(f".{key}") for name in self.options)

    def group_section(self, key: str) -> Section | None:
        """Find the section that `key=NAME` sets from a file, by its own or its group's name."""
        filled = [section for section in self.sections.values() if section.group]
        return next((s for s in filled if key in (s.name, s.group)), None)

    def find(self, leaf: str) -> Option | None:
        """Find the unique option whose name ends with this part; None if there is none."""
        found = [option for option in self.options.values() if option.leaf == leaf]
        return found[0] if len(found) == 1 else None

    def _unknown(self, key: str, where: str) -> str:
        names = [*self.options, *(s.name for s in self.sections.values() if s.group)]
        short = {option.leaf: option.name for option in self.options.values()}
        close = difflib.get_close_matches(key, names, n=1)
        close = close or [short[leaf] for leaf in difflib.get_close_matches(key, short, n=1)]
        hint = f" Did you mean `{close[0]}`?" if close else ""
        return f"Unknown option {key!r} {where}.{hint} `--help` lists the options."


def unwrap_optional(kind: object) -> tuple[object, bool]:
    """Split `X | None` into X and whether None is allowed."""
    if get_origin(kind) not in (Union, UnionType):
        return kind, False
    rest = [part for part in get_args(kind) if part is not NoneType]
    if len(rest) != 1:
        raise TypeError(f"{kind} is not a type that an option can have")
    return rest[0], len(rest) < len(get_args(kind))


def choices(kind: object) -> tuple[object, ...]:
    """Return the values of a `Literal`, also inside a list or optional; empty for other types."""
    kind, _ = unwrap_optional(kind)
    if get_origin(kind) in (list, tuple):
        return choices(get_args(kind)[0])
    return get_args(kind) if get_origin(kind) is Literal else ()


def option_choices(option: Option) -> tuple[object, ...]:
    """Return the values that an option lists: its choices, or registered implementations."""
    return tuple(registered(option.plugin)) if option.plugin else choices(option.kind)


def is_text(kind: object) -> bool:
    """Whether values are texts or paths, also inside a list or optional."""
    kind, _ = unwrap_optional(kind)
    if get_origin(kind) in (list, tuple):
        return is_text(get_args(kind)[0])
    return kind in (str, Path) or any(isinstance(choice, str) for choice in choices(kind))


@cache
def _classes_of(file: str) -> dict[str, ast.ClassDef]:
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def field_texts(kind: type) -> dict[str, str]:
    """Return the help of each field of a dataclass: the string literal under it, on one line."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        file = getattr(sys.modules.get(base.__module__), "__file__", None)
        if file is None or not dataclasses.is_dataclass(base):
            continue
        node = _classes_of(file).get(base.__name__)
        texts |= dict(_texts_under_fields(node)) if node else {}
    return texts


def _texts_under_fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, text in zip(node.body, node.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            yield field.target.id, " ".join(str(text.value.value).split())


def first_sentence(kind: type) -> str:
    """Return the first paragraph of a class's own docstring on one line, or an empty string."""
    text = (kind.__doc__ or "").strip()
    return "" if text.startswith(f"{kind.__name__}(") else " ".join(text.split("\n\n")[0].split())


def layout(kind: type) -> Layout:
    """Read all options of a dataclass, including nested ones."""
    found = Layout(options={}, sections={})
    _walk(kind, dataclasses.MISSING, "", found)
    return found


def _default(field: dataclasses.Field[object], instance: object, nested: bool) -> object:
    if instance is not dataclasses.MISSING:
        return getattr(instance, field.name)
    if field.default is not dataclasses.MISSING:
        return field.default
    factory = field.default_factory
    # Do not call a nested class as a factory: it may have required fields.
    if factory is dataclasses.MISSING or (nested and isinstance(factory, type)):
        return dataclasses.MISSING
    return factory()


def _walk(kind: type, instance: object, prefix: str, found: Layout) -> None:
    hints, texts = get_type_hints(kind), field_texts(kind)
    for field in dataclasses.fields(kind):
        name, hint = f"{prefix}{field.name}", hints[field.name]
        nested = isinstance(hint, type) and dataclasses.is_dataclass(hint)
        default = _default(field, instance, nested)
        text = texts.get(field.name) or str(field.metadata.get("help", ""))
        if nested:
            group = str(field.metadata.get("group", field.name))
            found.sections[name] = Section(
                name=name,
                kind=hint,
                text=first_sentence(hint) or text,
                group=group if group_names(group) else "",
            )
            _walk(hint, default, f"{name}.", found)
            continue
        found.options[name] = Option(
            name=name,
            kind=hint,
            default=default,
            text=text,
            low=field.metadata.get("min"),
            high=field.metadata.get("max"),
            unit=str(field.metadata.get("unit", "")),
            is_file=bool(field.metadata.get("file", False)),
            plugin=str(field.metadata.get("plugin", "")),
        )


def group_names(group: str) -> list[str]:
    """Return the names of the files in a configuration group, without `.yaml`."""
    return sorted(path.stem for path in (config_folder() / group).glob("*.yaml"))
