"""Validate the words and files of a command line and translate them for Hydra.

Both are validated before Hydra sees them, so that messages name the option and its valid values,
and no value is evaluated.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString, Transformer
from hydra.errors import HydraException

from planning.cli.commands import file_name
from planning.cli.fields import (
    Layout,
    Option,
    Section,
    UsageError,
    group_names,
    is_text,
    layout,
    unwrap_optional,
)
from planning.cli.values import check, read_number, read_text, split_words
from planning.errors import PlanError
from planning.yaml_file import Scalar, Tree, read_yaml
from worldmodel.dotted_names import dotted
from worldmodel.resources import config_folder

MAX_JOBS = 100_000
"""Maximum number of values of a range."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """The words of a command, validated and translated for Hydra."""

    command: str
    kind: type
    layout: Layout
    kinds: Mapping[str, type]
    """Options dataclass of each mode."""
    mode: str
    """Chosen entry of the `mode` group; empty for a command without modes."""
    overrides: list[str]
    """Hydra overrides in canonical spelling; in a sweep a value holds commas."""
    files: dict[str, dict[str, Tree]]
    """Content of the chosen files, by group and name."""
    values: dict[str, list[object]]
    """Option values given by the words, by dotted name; several in a sweep."""


def read_request(
    command: str, kinds: Mapping[str, type], words: list[str], *, sweep: bool = False
) -> Request:
    """Validate the words of a command and translate them for Hydra.

    Args:
        command: Name of the command; `configs/<command>/` holds its recipes.
        kinds: Options dataclass of each mode, the default first.
        words: `key=value` words.
        sweep: Whether commas separate the values of a sweep.

    Raises:
        UsageError: A key is unknown or a value is invalid.
    """
    pairs = [_split_word(word, sweep) for word in words]
    recipes = {
        text: _read_yaml(key, file_name(command), text)
        for key, texts in pairs
        if key == "recipe"
        for text in texts
    }
    mode = _choose_mode(kinds, pairs, recipes)
    found = layout(kinds[mode])
    request = Request(
        command=command,
        kind=kinds[mode],
        layout=found,
        kinds=kinds,
        mode=mode,
        overrides=[],
        files={},
        values={},
    )
    for key, texts in pairs:
        if key == "mode" and mode:
            continue
        _add_pair(request, key, texts, recipes, sweep=sweep)
    return request


def _add_pair(
    request: Request, key: str, texts: list[str], recipes: Mapping[str, Tree], *, sweep: bool
) -> None:
    section = request.layout.group_section(key)
    if key == "recipe":
        root = Section(name="", kind=request.kind, text="", group="recipe")
        trees = {text: _nest(request, root, recipes[text], f"recipe {text}") for text in texts}
        option = request.layout.find("recipe")
        if option is not None:
            for text, tree in trees.items():
                set_value(tree, option.name, text)
        _choose_files(request, "recipe", "recipe", trees)
    elif section is not None and key not in request.layout.options:
        trees = {
            text: _nest(request, section, _read_yaml(key, section.group, text), f"{key}={text}")
            for text in texts
        }
        group, name = section.group, section.name
        _choose_files(request, group, group if group == name else f"{group}@{name}", trees)
    else:
        option = _resolve(request, key, f"of `worldmodel {request.command}`")
        if sweep:
            texts = [word for text in texts for word in _expand_range(option, text)]
        values = [read_text(option, text) for text in texts]
        request.values[option.name] = values
        request.overrides.append(f"{option.name}={','.join(hydra_text(v) for v in values)}")


def _expand_range(option: Option, text: str) -> list[str]:
    """Return the values of Hydra's `range(start,stop,step)` for a number; other text as it is."""
    kind, _ = unwrap_optional(option.kind)
    if kind not in (int, float) or not re.fullmatch(r"range\(.*\)", text):
        return [text]
    try:
        parsed = OverridesParser.create().parse_override(f"value={text}")
        values = parsed.sweep_iterator(Transformer.identity)
        found = [str(value) for value in itertools.islice(values, MAX_JOBS + 1)]
    except (HydraException, ValueError) as error:
        found, problem = [], f" ({' '.join(str(error).split())})"
    else:
        problem = ""
    if not 0 < len(found) <= MAX_JOBS:
        raise UsageError(
            f"{option.name}={text} is not allowed{problem}. Allowed: range(stop) or "
            f"range(start,stop,step) with 1 to {MAX_JOBS} values."
        )
    return found


def _resolve(request: Request, key: str, where: str) -> Option:
    """Find an option; where only other modes have it, the error names them."""
    try:
        return request.layout.resolve(key, where)
    except UsageError as error:
        modes = [m for m, kind in request.kinds.items() if layout(kind).has(key)]
        if not modes or layout(request.kind).has(key):
            raise
        raise UsageError(
            f"Option {key!r} {where} has no effect with mode={request.mode}; it is an option of "
            f"mode={' and mode='.join(modes)}. Leave it out, or choose that mode."
        ) from error


def _choose_files(request: Request, group: str, key: str, trees: Mapping[str, Tree]) -> None:
    nodes = request.files.setdefault(group, {})
    names = []
    for text, tree in trees.items():
        # Hydra config names have no slashes or dots, so a user's file gets a number.
        name = f"file-{len(nodes)}" if text.endswith(".yaml") else text
        nodes[name] = tree
        names.append(hydra_text(name))
    request.overrides.append(f"{key}={','.join(names)}")


def _split_word(word: str, sweep: bool) -> tuple[str, list[str]]:
    key, equals, text = word.partition("=")
    if not equals:
        raise UsageError(f"{word!r} is not an option. Options are written key=value.")
    return key, [part.strip() for part in split_words(text)] if sweep else [text]


def _choose_mode(
    kinds: Mapping[str, type], pairs: list[tuple[str, list[str]]], recipes: Mapping[str, Tree]
) -> str:
    """Return the mode given by the words, else by the recipe, else the first."""
    default = next(iter(kinds))
    if not default:
        return default
    given = [text for key, texts in pairs if key == "mode" for text in texts]
    named = given or [str(tree["mode"]) for tree in recipes.values() if "mode" in tree]
    for mode in named:
        if mode not in kinds:
            raise UsageError(f"mode={mode} is not allowed. Allowed: {', '.join(kinds)}.")
    if len(set(named)) > 1:
        raise UsageError(f"A sweep has one mode, not {', '.join(sorted(set(named)))}.")
    return named[0] if named else default


def _read_yaml(key: str, group: str, name: str) -> Tree:
    """Read `configs/<group>/<name>.yaml`, or the file `name` if it ends in `.yaml`.

    The leaves of the tree are `Scalar`s and lists of them.
    """
    known = group_names(group)
    if name not in known and not name.endswith(".yaml"):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        listed = f"Allowed: {', '.join(known)}, or" if known else "Allowed:"
        raise UsageError(f"{key}={name} is unknown.{hint} {listed} a path that ends in .yaml.")
    path = config_folder() / group / f"{name}.yaml" if name in known else Path(name)
    try:
        return read_yaml(path)
    except PlanError as error:
        raise UsageError(f"{key}={name} cannot be read as a file of options: {error}.") from error


def _nest(request: Request, section: Section, tree: Tree, where: str) -> Tree:
    """Validate the values of a file and nest each of them below the section."""
    nested: Tree = {}
    seen: set[str] = set()
    prefix = f"{section.name}." if section.name else ""
    for key, value in dotted(tree):
        if key == "mode" and request.mode and not prefix:
            continue
        option = _resolve(request, f"{prefix}{key}", f"in {where}")
        if option.name in seen:
            raise UsageError(f"In {where}: {option.name} is given twice.")
        seen.add(option.name)
        checked = _check_in_file(option, value, where)
        set_value(nested, option.name.removeprefix(prefix), plain(checked))
    return nested


def set_value(tree: Tree, name: str, value: object) -> None:
    """Set a value by dotted name in nested dictionaries, creating missing ones."""
    *parents, leaf = name.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})  # type: ignore[assignment]
    tree[leaf] = value


def _check_in_file(option: Option, value: object, where: str) -> object:
    try:
        return check(option, _as_written(value) if is_text(option.kind) else _as_read(value))
    except UsageError as error:
        raise UsageError(f"In {where}: {error}") from error


def _as_written(value: object) -> object:
    """Return the texts of a file: `out: 2024_11_25` is a name, not the number 20241125."""
    if isinstance(value, list):
        return [_as_written(part) for part in value]
    return value.text if isinstance(value, Scalar) and value.value is not None else None


def _as_read(value: object) -> object:
    """Return the values of a file; its numbers are read as on the command line (`010` is ten)."""
    if isinstance(value, list):
        return [_as_read(part) for part in value]
    if not isinstance(value, Scalar):
        return value
    found = value.value
    if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < math.inf:
        return found
    return read_number(value.text)


def plain(value: object) -> object:
    """Convert tuples to lists and paths to text, as in YAML."""
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def hydra_text(value: object) -> str:
    """Write a value in Hydra's grammar so that Hydra reads the same value back."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(hydra_text(part) for part in value)}]"
    if isinstance(value, str | Path):
        return QuotedString(text=str(value), quote=Quote.single).with_quotes()
    return "null" if value is None else repr(value)
