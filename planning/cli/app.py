"""The `worldmodel` command: finds the sub-command, reads its options, runs it.

Options follow Hydra's override grammar (`key=value`, `key.sub=value`, `list=[a,b]`). A command is a
module with a dataclass `Options` and `run(options) -> int`; it is imported only when asked for.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import logging
import sys
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from worldmodel.resources import config_folder, require_own_packages

COMMANDS = {
    "demo": ("planning.cli.demo", "watch the embedded model pick and place, from goal images"),
    "collect": ("planning.cli.collect", "record simulated episodes in raw DROID layout"),
    "data index": ("planning.cli.data_index", "what of a data set is good, and why the rest not"),
    "data prepare": ("planning.cli.data_prepare", "cut episodes to frames or features, once"),
    "pretrain": ("planning.cli.pretrain", "a video encoder by masked prediction, no labels"),
    "train": ("planning.cli.train", "train an action-conditioned world model"),
    "eval": ("planning.cli.eval", "success rates beside baselines, with a report"),
    "plan": ("planning.cli.plan", "an action from two images on disk"),
    "drive": ("planning.cli.drive", "move an arm toward goal images; dry run by default"),
    "calibrate axes": ("planning.cli.calibrate_axes", "how the model's axes lie to the arm's"),
    "check-view": ("planning.cli.check_view", "is the camera where it was?"),
    "capture-goal": ("planning.cli.capture_goal", "goal pictures by moving the arm"),
    "replay": ("planning.cli.replay", "show a drive's log and plan it again"),
    "models": ("planning.cli.models", "published models by name, sizes and licences"),
    "convert": ("planning.cli.convert", "rewrite a published checkpoint as our safetensors"),
    "features": ("planning.cli.features", "encoder features of videos into HDF5"),
    "inspect energy": ("planning.cli.inspect_energy", "energies over a grid of actions"),
    "bench planning": ("planning.cli.bench_planning", "our planner beside the published loop"),
    "inspect probes": ("planning.cli.inspect_probes", "what the latent knows of robot and object"),
}


class UsageError(ValueError):
    """The command line cannot be understood; the message says what is allowed."""


def find_command(words: list[str]) -> tuple[str, list[str]]:
    """Split words into a command of one or two words and what follows it."""
    for length in (2, 1):
        name = " ".join(words[:length])
        if len(words) >= length and name in COMMANDS:
            return name, words[length:]
    asked = " ".join(w for w in words[:2] if "=" not in w)
    close = difflib.get_close_matches(asked, COMMANDS, n=1, cutoff=0.5)
    hint = f" Did you mean `{close[0]}`?" if close else ""
    raise UsageError(f"Unknown command {asked!r}.{hint} Known: {', '.join(sorted(COMMANDS))}.")


def known_keys(config: DictConfig, prefix: str = "") -> list[str]:
    """All dotted option names of a structured configuration."""
    keys: list[str] = []
    for name in map(str, config):
        dotted = f"{prefix}{name}"
        keys.append(dotted)
        child = OmegaConf.to_container(config).get(name)  # type: ignore[union-attr]
        if isinstance(child, dict) and isinstance(config[name], DictConfig):
            keys += known_keys(config[name], f"{dotted}.")
    return keys


def recipe_values(command: str, recipe: str) -> DictConfig:
    """Read `configs/<command>/<recipe>.yaml`, or a path that ends in .yaml."""
    folder = config_folder() / command.replace(" ", "_")
    if recipe.endswith(".yaml"):
        return OmegaConf.load(recipe)  # type: ignore[return-value]
    file = folder / f"{recipe}.yaml"
    if not file.is_file():
        names = sorted(p.name[:-5] for p in folder.iterdir()) if folder.is_dir() else []
        raise UsageError(f"Unknown recipe {recipe!r} for `{command}`; known: {names}.")
    return OmegaConf.create(file.read_text(encoding="utf-8"))  # type: ignore[return-value]


def _apply(config: DictConfig, key: str, value: Any, where: str) -> None:
    keys = known_keys(config)
    if key not in keys:
        close = difflib.get_close_matches(key, keys, n=1)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        raise UsageError(f"Unknown option {key!r} {where}.{hint} Known: {', '.join(keys)}.")
    try:
        OmegaConf.update(config, key, value)
    except OmegaConfBaseException as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"Option {key}={value!r} {where}: {first}") from error


def _flatten(values: DictConfig, config: DictConfig, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name!s}"
        if isinstance(value, DictConfig):
            flat |= _flatten(value, config, f"{key}.")
        else:
            flat[key] = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    return flat


def parse_options(command: str, kind: type[Any], words: list[str]) -> Any:
    """Build `kind` from its defaults, a recipe if named, and key=value words, in this order.

    Raises:
        UsageError: for an unknown key, a value of the wrong type or words without `=`.
    """
    config: DictConfig = OmegaConf.structured(kind)
    OmegaConf.set_readonly(config, False)
    try:
        overrides = OverridesParser.create().parse_overrides(words)
    except HydraException as error:
        raise UsageError(f"{error}. Options are written key=value.") from error
    given = {o.key_or_group: o.value() for o in overrides}
    if "recipe" in given and "recipe" in config:
        for key, value in _flatten(recipe_values(command, given["recipe"]), config).items():
            _apply(config, key, value, f"in recipe {given['recipe']}")
    for key, value in given.items():
        _apply(config, key, value, f"of `worldmodel {command}`")
    return OmegaConf.to_object(config)


def help_text(command: str, kind: type[Any]) -> str:
    """Options of a command, one a line, with defaults."""
    lines = [f"worldmodel {command} [key=value ...]: {COMMANDS[command][1]}", ""]
    for field in dataclasses.fields(kind):
        if field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        else:
            default = "(required)"
        lines.append(f"  {field.name}={default}  {field.metadata.get('help', '')}".rstrip())
    return "\n".join(lines)


def overview() -> str:
    """The list of commands."""
    lines = ["worldmodel COMMAND [key=value ...]   (--help after a command shows its options)", ""]
    lines += [f"  {name:16s} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status (2 for a wrong command line)."""
    words = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    if not words or words[0] in {"-h", "--help", "help"}:
        print(overview())
        return 0
    try:
        require_own_packages()
        name, rest = find_command(words)
        module = importlib.import_module(COMMANDS[name][0])
        if any(word in {"-h", "--help"} for word in rest):
            print(help_text(name, module.Options))
            return 0
        options = parse_options(name, module.Options, rest)
        return int(module.run(options))
    except (ImportError, ValueError, RuntimeError, OSError) as error:
        if type(error) in {ValueError, RuntimeError}:
            raise  # a fault of ours, not the user's: show where
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped by Ctrl-C; what was finished is kept", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
