"""Table of all commands, grouped by purpose; command modules are imported on demand."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from planning.cli.fields import UsageError


@dataclass(frozen=True)
class Command:
    """A command: a module with a dataclass `Options` and `run(options) -> int`."""

    module: str
    group: str
    text: str
    """One-line description in the list of commands."""


SEE, TRAIN, PERCEIVE, DRIVE, DATA = (
    "See and plan",
    "Train",
    "Perceive",
    "Drive a robot arm",
    "Data and models",
)

COMMANDS = {
    "demo": Command(
        "planning.cli.demo", SEE, "Watch the embedded model pick and place from goal images."
    ),
    "eval": Command(
        "planning.cli.eval", SEE, "Measure success rates beside baselines and write a report."
    ),
    "plan": Command("planning.cli.plan", SEE, "Plan actions from two images on disk."),
    "train": Command("planning.cli.train", TRAIN, "Train an action-conditioned world model."),
    "pretrain": Command(
        "planning.cli.pretrain", TRAIN, "Train a video encoder by masked prediction, unlabelled."
    ),
    "collect": Command(
        "planning.cli.collect", TRAIN, "Record simulated episodes in the raw DROID layout."
    ),
    "features": Command(
        "planning.cli.features", PERCEIVE, "Write encoder features of videos to HDF5."
    ),
    "inspect energy": Command(
        "planning.cli.inspect_energy", PERCEIVE, "Draw the energy over a grid of actions."
    ),
    "inspect probes": Command(
        "planning.cli.inspect_probes",
        PERCEIVE,
        "Measure what the latent knows about robot and object.",
    ),
    "drive": Command(
        "planning.cli.drive", DRIVE, "Move an arm toward goal images; a dry run by default."
    ),
    "replay": Command(
        "planning.cli.replay", DRIVE, "Show the log of a drive and plan its actions again."
    ),
    "calibrate axes": Command(
        "planning.cli.calibrate_axes", DRIVE, "Estimate the model-to-robot rotation."
    ),
    "check-view": Command("planning.cli.check_view", DRIVE, "Check that the camera has not moved."),
    "capture-goal": Command(
        "planning.cli.capture_goal", DRIVE, "Record goal images by moving the arm."
    ),
    "data index": Command(
        "planning.cli.data_index", DATA, "List usable episodes and rejection reasons."
    ),
    "data prepare": Command(
        "planning.cli.data_prepare", DATA, "Cut episodes to frames or features, once."
    ),
    "models": Command(
        "planning.cli.models", DATA, "List published models, their sizes and licences."
    ),
    "convert": Command(
        "planning.cli.convert", DATA, "Convert a published checkpoint to safetensors."
    ),
    "bench planning": Command(
        "planning.cli.bench_planning", DATA, "Time our planner beside the published loop."
    ),
}


@dataclass(frozen=True)
class LoadedCommand:
    """An imported command."""

    name: str
    kinds: Mapping[str, type]
    """Options dataclass of each mode, the default first; a command without modes has one, named
    ""."""
    run: Callable[[object], int]


def find_command(words: list[str]) -> tuple[str, list[str]]:
    """Split words into a command of one or two words and its arguments.

    Raises:
        UsageError: no command has this name.
    """
    for length in (2, 1):
        name = " ".join(words[:length])
        if len(words) >= length and name in COMMANDS:
            return name, words[length:]
    asked = " ".join(w for w in words[:2] if "=" not in w and not w.startswith("-"))
    close = [name for name in COMMANDS if name.startswith(f"{words[0]} ")]
    close = close or difflib.get_close_matches(asked, COMMANDS, n=1, cutoff=0.5)
    hint = f" Did you mean {' or '.join(f'`{name}`' for name in close)}?" if close else ""
    raise UsageError(f"Unknown command {asked!r}.{hint} Known: {', '.join(sorted(COMMANDS))}.")


def load_command(name: str) -> LoadedCommand:
    """Import a command's module, which imports neither PyTorch nor MuJoCo."""
    module = importlib.import_module(COMMANDS[name].module)
    modes = getattr(module, "MODES", None)
    kinds = modes if isinstance(modes, Mapping) else {"": module.Options}
    return LoadedCommand(name, kinds, module.run)


def is_refusal(error: Exception) -> bool:
    """Return whether an error is the user's to fix; a plain ValueError is a bug."""
    known = isinstance(error, ImportError | ValueError | RuntimeError | OSError)
    return known and type(error) not in (ValueError, RuntimeError)


def overview() -> str:
    """Return the list of commands, grouped by purpose."""
    lines = [
        "worldmodel COMMAND [key=value ...]",
        "",
        "`worldmodel COMMAND --help` lists the options of a command.",
    ]
    for group in dict.fromkeys(command.group for command in COMMANDS.values()):
        lines += ["", f"{group}:"]
        found = {name: c for name, c in COMMANDS.items() if c.group == group}
        lines += [f"  {name:16s} {command.text}" for name, command in found.items()]
    return "\n".join(
        [
            *lines,
            "",
            "Flags:",
            "  --help           Show this list, or the options of a command.",
            "  --cfg job        Print the composed options of a command and stop.",
            "  -m, --multirun   Run a command for each combination of values: key=a,b.",
            "  --version        Print the version.",
            "  --completion SH  Print a completion script for bash, zsh or fish.",
        ]
    )
