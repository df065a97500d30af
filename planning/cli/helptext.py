"""Help of a command: its options by section, with type, default, range and choices."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator
from typing import get_args, get_origin

from planning.cli.commands import COMMANDS, LoadedCommand, file_name
from planning.cli.fields import (
    Layout,
    Option,
    choices,
    group_names,
    layout,
    option_choices,
    unwrap_optional,
)
from planning.cli.values import allowed_range, plain_text

WIDTH = 100
INDENT = 6


def command_help(command: LoadedCommand, mode: str = "") -> str:
    """Describe a command and the options of one of its modes (default: the first)."""
    mode = mode or next(iter(command.kinds))
    lines = [f"worldmodel {command.name} [key=value ...]", "", COMMANDS[command.name].text]
    if mode:
        others = ", ".join(command.kinds)
        lines += ["", f"Options with mode={mode}. Modes: {others} (`mode=NAME --help`)."]
    recipes = group_names(file_name(command.name))
    if recipes:
        names = ", ".join(recipes)
        lines += ["", *_wrap(f"recipe=NAME reads a file of options first: {names}.", 0)]
    found = layout(command.kinds[mode])
    lines += [line for section in ["", *found.sections] for line in _section(found, section)]
    if found.sections:
        lines += ["", "The last part of a name is enough where no other option ends with it."]
    return "\n".join(lines)


def _section(found: Layout, name: str) -> Iterator[str]:
    options = [option for option in found.options.values() if option.section == name]
    if not options:
        return
    yield ""
    section = found.sections.get(name)
    yield f"{name}: {section.text}" if section and section.text else f"{name or 'Options'}:"
    if section and section.group:
        names = ", ".join(group_names(section.group))
        yield from _wrap(
            f"{section.group}=NAME reads configs/{section.group}/NAME.yaml: {names}.", 2
        )
    for option in options:
        yield from _option(option)


def _option(option: Option) -> Iterator[str]:
    required = option.default is dataclasses.MISSING
    shown = "(required)" if required else plain_text(option.default)
    yield f"  {option.name}={shown}  <{type_name(option.kind)}>"
    facts = [option.text] if option.text else []
    allowed = option_choices(option)
    if allowed:
        more = ", or your own as module:Class" if option.plugin else ""
        facts.append(f"Allowed: {', '.join(plain_text(c) or 'empty' for c in allowed)}{more}.")
    elif allowed_range(option):
        facts.append(f"Range: {allowed_range(option)}.")
    yield from _wrap(" ".join(facts), INDENT)


def _wrap(text: str, indent: int) -> list[str]:
    space = " " * indent
    return textwrap.wrap(text, WIDTH, initial_indent=space, subsequent_indent=space)


def type_name(kind: object) -> str:
    """Return the display name of an option's type."""
    inner, _ = unwrap_optional(kind)
    if get_origin(inner) in (list, tuple):
        return f"list of {type_name(get_args(inner)[0])}"
    if choices(inner):
        return "choice"
    names = {str: "text", int: "integer", float: "number", bool: "true or false"}
    return next((name for known, name in names.items() if known is inner), "path")
