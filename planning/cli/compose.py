"""Compose a command's options with Hydra: schema, recipe, configuration groups, then the words.

The options dataclass becomes a structured config in Hydra's ConfigStore, beside one node for each
chosen file of `configs/`. Words and files are checked before Hydra sees them, so that messages name
the option and what it allows, and nothing in a value is evaluated.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Optional, TypeVar, get_args, get_origin

from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from planning.cli.fields import (
    Layout,
    Option,
    Section,
    UsageError,
    choices,
    group_names,
    layout,
    unwrap_optional,
)
from planning.cli.values import check, read_text, split_words
from worldmodel.resources import config_folder

T = TypeVar("T")
ROOT = "worldmodel"
"""Name of the primary config in Hydra's store."""
Tree = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A command's words, checked and translated for Hydra."""

    command: str
    kind: type
    layout: Layout
    mode: str
    """Chosen entry of the `mode` group; empty for a command without modes."""
    overrides: list[str]
    """Hydra overrides in canonical spelling; in a sweep a value holds commas."""
    files: dict[str, dict[str, Tree]]
    """Content of the chosen files, by group and name."""
    values: dict[str, list[object]]
    """Values of the options that the words give, by dotted name; several in a sweep."""


def parse_options(command: str, kind: type[T], words: list[str]) -> T:
    """Build `kind` from its defaults, chosen files and `key=value` words, in this order.

    Raises:
        UsageError: unknown key, value of the wrong type or out of range, or a word without `=`.
    """
    return build(kind, compose_tree(read_request(command, {"": kind}, words)))


def read_request(
    command: str, kinds: Mapping[str, type], words: list[str], *, sweep: bool = False
) -> Request:
    """Check the words of a command and translate them for Hydra.

    Args:
        command: name of the command; `configs/<command>/` holds its recipes.
        kinds: options dataclass of each mode, the default first.
        words: `key=value` words.
        sweep: whether commas separate the values of a sweep.

    Raises:
        UsageError: a key is unknown, or a value is not allowed.
    """
    pairs = [_split_word(word, sweep) for word in words]
    recipes = {
        text: _read_yaml(key, _recipe_group(command), text)
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
        mode=mode,
        overrides=[],
        files={},
        values={},
    )
    for key, texts in pairs:
        if key == "mode" and mode:
            continue
        _add_pair(request, key, texts, recipes)
    return request


def _add_pair(request: Request, key: str, texts: list[str], recipes: Mapping[str, Tree]) -> None:
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
        option = request.layout.resolve(key, f"of `worldmodel {request.command}`")
        values = [read_text(option, text) for text in texts]
        request.values[option.name] = values
        request.overrides.append(f"{option.name}={','.join(hydra_text(v) for v in values)}")


def _choose_files(request: Request, group: str, key: str, trees: Mapping[str, Tree]) -> None:
    nodes = request.files.setdefault(group, {})
    names = []
    for text, tree in trees.items():
        # Hydra names configs without slashes and dots; a file of the user gets a number.
        name = f"file-{len(nodes)}" if text.endswith(".yaml") else text
        nodes[name] = tree
        names.append(hydra_text(name))
    request.overrides.append(f"{key}={','.join(names)}")


def _split_word(word: str, sweep: bool) -> tuple[str, list[str]]:
    key, equals, text = word.partition("=")
    if not equals:
        raise UsageError(f"{word!r} is not an option. Options are written key=value.")
    return key, [part.strip() for part in split_words(text)] if sweep else [text]


def _recipe_group(command: str) -> str:
    return command.replace(" ", "_").replace("-", "_")


def _choose_mode(
    kinds: Mapping[str, type], pairs: list[tuple[str, list[str]]], recipes: Mapping[str, Tree]
) -> str:
    """The mode that the words name, else the one that the recipe names, else the first."""
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
    """Read `configs/<group>/<name>.yaml`, or the file itself when `name` ends in `.yaml`."""
    known = group_names(group)
    if name not in known and not name.endswith(".yaml"):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        listed = f"Allowed: {', '.join(known)}, or" if known else "Allowed:"
        raise UsageError(f"{key}={name} is unknown.{hint} {listed} a path that ends in .yaml.")
    path = config_folder() / group / f"{name}.yaml" if name in known else Path(name)
    try:
        tree = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{name} cannot be read as a YAML file of options: {reason}.") from error
    if not isinstance(tree, dict):
        raise UsageError(f"{name} is not a file of options: it has no `key: value` lines.")
    return {str(key): value for key, value in tree.items()}


def _nest(request: Request, section: Section, tree: Tree, where: str) -> Tree:
    """Check the values of a file and give every one its full place below the section."""
    nested: Tree = {}
    prefix = f"{section.name}." if section.name else ""
    for key, value in _flatten(tree):
        if key == "mode" and request.mode and not prefix:
            continue
        option = request.layout.resolve(f"{prefix}{key}", f"in {where}")
        plain = _plain(_check_in_file(option, value, where))
        set_value(nested, option.name.removeprefix(prefix), plain)
    return nested


def set_value(tree: Tree, name: str, value: object) -> None:
    """Set the value with a dotted name in nested dictionaries, which are made where missing."""
    *parents, leaf = name.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})  # type: ignore[assignment]
    tree[leaf] = value


def _check_in_file(option: Option, value: object, where: str) -> object:
    try:
        return check(option, value)
    except UsageError as error:
        raise UsageError(f"In {where}: {error}") from error


def _flatten(tree: Tree, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten({str(k): v for k, v in value.items()}, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def hydra_text(value: object) -> str:
    """Spell a value in Hydra's grammar, so that it reads the same value back."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(hydra_text(part) for part in value)}]"
    if isinstance(value, str | Path):
        return QuotedString(text=str(value), quote=Quote.single).with_quotes()
    return "null" if value is None else repr(value)


@cache
def schema(kind: type) -> type:
    """Dataclass with the same fields in types that OmegaConf knows, all required."""
    found = layout(kind)
    return _schema_of(kind, "", found)


def _schema_of(kind: type, prefix: str, found: Layout) -> type:
    fields: list[tuple[str, object, object]] = []
    for field in dataclasses.fields(kind):
        name = f"{prefix}{field.name}"
        if name in found.sections:
            nested = _schema_of(found.sections[name].kind, f"{name}.", found)
            fields.append((field.name, nested, dataclasses.field(default_factory=nested)))
        else:
            hint = _schema_hint(found.options[name].kind)
            fields.append((field.name, hint, dataclasses.field(default=MISSING)))
    return dataclasses.make_dataclass(kind.__name__, fields)  # type: ignore[arg-type]


def _schema_hint(kind: object) -> object:
    inner, is_optional = unwrap_optional(kind)
    if get_origin(inner) in (list, tuple):
        hint: object = list[_schema_hint(get_args(inner)[0])]  # type: ignore[misc]
    elif choices(inner):
        hint = type(choices(inner)[0])
    else:
        hint = str if inner is Path else inner
    return Optional[hint] if is_optional else hint  # noqa: UP045 - `|` needs a type, not a hint


def structured(kind: type, found: Layout) -> DictConfig:
    """Structured config of an options dataclass with its defaults."""
    config: DictConfig = OmegaConf.structured(schema(kind))
    for option in found.options.values():
        if option.default is not dataclasses.MISSING:
            OmegaConf.update(config, option.name, _plain(option.default))
    return config


def register(request: Request) -> None:
    """Put the schema and the chosen files of a request into Hydra's ConfigStore."""
    store = ConfigStore.instance()
    for name in [name for name in store.repo if name not in ("hydra", "_dummy_empty_config_")]:
        if not name.startswith("hydra"):
            del store.repo[name]
    defaults: list[object] = [{"mode": request.mode or "default"}]
    store.store(
        group="mode",
        name=request.mode or "default",
        node=structured(request.kind, request.layout),
        package="_global_",
    )
    for group, nodes in request.files.items():
        for name, tree in nodes.items():
            package = "_global_" if group == "recipe" else None
            store.store(group=group, name=name, node=tree, package=package)
    keys = {text.partition("=")[0] for text in request.overrides}
    defaults += [{key: None} for key in sorted(keys) if key.partition("@")[0] in request.files]
    store.store(name=ROOT, node={"defaults": [*defaults, "_self_"]})


def compose_tree(request: Request) -> Tree:
    """Compose one run; returns its options as nested plain values.

    Raises:
        UsageError: Hydra cannot compose the configuration.
    """
    register(request)
    try:
        with initialize(version_base="1.3", config_path=None, job_name=ROOT):
            config = compose(ROOT, overrides=request.overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(" ".join(str(error).split())) from error
    return plain_tree(config)


def plain_tree(config: DictConfig) -> Tree:
    """Nested plain values of a composed config; interpolations stay text."""
    tree = OmegaConf.to_container(config, resolve=False)
    if not isinstance(tree, dict):
        raise TypeError(f"a configuration is a dictionary, not {type(tree).__name__}")
    return {str(key): value for key, value in tree.items()}


def build(kind: type[T], tree: Mapping[str, object]) -> T:
    """Make the options dataclass from nested plain values.

    Raises:
        UsageError: a required option is missing, or a value is not allowed.
    """
    return _build(kind, tree, "", layout(kind))


def _build(kind: type[T], tree: Mapping[str, object], prefix: str, found: Layout) -> T:
    values: Tree = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        name, value = f"{prefix}{field.name}", tree[field.name]
        if name in found.sections:
            if not isinstance(value, Mapping):
                raise TypeError(f"{name} is a group of options, not {value!r}")
            values[field.name] = _build(found.sections[name].kind, value, f"{name}.", found)
        elif value == MISSING:
            option = found.options[name]
            raise UsageError(f"Option {name} is missing. Give {name}=...: {option.text}")
        else:
            values[field.name] = check(found.options[name], value)
    make: Callable[..., T] = kind
    return make(**values)
