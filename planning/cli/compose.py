"""Compose a command's options with Hydra: schema, recipe, configuration groups, then the words.

The options dataclass becomes a structured config in Hydra's ConfigStore, with one node per chosen
file of `configs/`. `planning.cli.request` has validated both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Optional, TypeVar, get_args, get_origin

from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from planning.cli.fields import Layout, UsageError, choices, layout, unwrap_optional
from planning.cli.request import Request, plain, read_request
from planning.cli.values import check
from planning.yaml_file import Tree

T = TypeVar("T")
ROOT = "worldmodel"
"""Name of the primary config in Hydra's store."""
OF_SWEEPS = (
    *("launcher", "sweeper", "output", "job_logging", "hydra_logging"),
    *("help", "hydra_help", "env"),
)
"""Groups of Hydra's own configuration that only its runs and sweeps read; composing without them
takes a third less time."""


def parse_options(command: str, kind: type[T], words: list[str]) -> T:
    """Build `kind` from its defaults, the chosen files and the `key=value` words, in this order.

    Raises:
        UsageError: Unknown key, value of the wrong type or out of range, or a word without `=`.
    """
    return build(kind, compose_tree(read_request(command, {"": kind}, words)))


@cache
def schema(kind: type) -> type:
    """Return a dataclass with the same fields, all required, in types that OmegaConf supports."""
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
    return dataclasses.make_dataclass(kind.__name__, fields)


def _schema_hint(kind: object) -> object:
    inner, is_optional = unwrap_optional(kind)
    if get_origin(inner) in (list, tuple):
        hint: object = list[_schema_hint(get_args(inner)[0])]  # type: ignore[misc]
    elif choices(inner):
        hint = type(choices(inner)[0])
    else:
        hint = str if inner is Path else inner
    return Optional[hint] if is_optional else hint  # noqa: UP045 - `|` needs a type, not a hint


@cache
def structured(kind: type) -> DictConfig:
    """Return the structured config of an options dataclass with its defaults; Hydra copies it."""
    config: DictConfig = OmegaConf.structured(schema(kind))
    for option in layout(kind).options.values():
        if option.default is not dataclasses.MISSING:
            OmegaConf.update(config, option.name, plain(option.default))
    return config


def register(request: Request, *, without: tuple[str, ...] = ()) -> None:
    """Register the schema and the chosen files of a request in Hydra's ConfigStore.

    Args:
        request: Validated words of a command.
        without: Groups of Hydra's own configuration to leave out.
    """
    store = ConfigStore.instance()
    for name in [name for name in store.repo if not name.startswith(("hydra", "_"))]:
        del store.repo[name]  # nodes of an earlier command in this process
    defaults: list[object] = [{"mode": request.mode or "default"}]
    store.store(
        group="mode",
        name=request.mode or "default",
        node=structured(request.kind),
        package="_global_",
    )
    for group, nodes in request.files.items():
        for name, tree in nodes.items():
            package = "_global_" if group == "recipe" else None
            store.store(group=group, name=name, node=tree, package=package)
    keys = {text.partition("=")[0] for text in request.overrides}
    defaults += [{key: None} for key in sorted(keys) if key.partition("@")[0] in request.files]
    left_out = [{f"override hydra/{group}": None} for group in without]
    store.store(name=ROOT, node={"defaults": [*defaults, "_self_", *left_out]})


def compose_tree(request: Request) -> Tree:
    """Compose one run and return its options as nested plain values.

    Raises:
        UsageError: Hydra cannot compose the configuration.
    """
    register(request, without=OF_SWEEPS)
    try:
        with initialize(version_base="1.3", config_path=None, job_name=ROOT):
            config = compose(ROOT, overrides=request.overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(" ".join(str(error).split())) from error
    return plain_tree(config)


def plain_tree(config: DictConfig) -> Tree:
    """Convert a composed config to nested plain values; interpolations stay text."""
    tree = OmegaConf.to_container(config, resolve=False)
    if not isinstance(tree, dict):
        raise TypeError(f"a configuration is a dictionary, not {type(tree).__name__}")
    return {str(key): value for key, value in tree.items()}


def build(kind: type[T], tree: Mapping[str, object]) -> T:
    """Build the options dataclass from nested plain values.

    Raises:
        UsageError: A required option is missing, or a value is invalid.
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
