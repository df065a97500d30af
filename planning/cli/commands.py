"""Table of all commands, grouped by purpose; command modules are imported on demand."""

from __future__ import annotations

import difflib
import importlib
import json
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


SEE = "See and plan"
REFUSALS = (ImportError, ValueError, RuntimeError, OSError)
"""Kinds of errors that may be the user's to fix."""
BUGS = (RecursionError, NotImplementedError, UnicodeError, json.JSONDecodeError)
"""Kinds of ValueError and RuntimeError that name neither the file nor a fix."""

GROUPS = {
    SEE: {
        "demo": "Watch the embedded model reach goals shown in one image.",
        "eval": "Measure success rates against baselines, with a report.",
        "plan": "Plan actions from two images on disk.",
    },
    "Train": {
        "train": "Train an action-conditioned world model.",
        "train decoder": "Train a decoder that shows latents as pictures.",
        "pretrain": "Train a video or image encoder by masked prediction.",
        "collect": "Record simulated episodes, as raw DROID or LeRobot.",
    },
    "Perceive": {
        "features": "Write encoder features of videos to HDF5.",
        "probe train": "Train attentive probes on a frozen encoder.",
        "probe eval": "Measure a probe's accuracy on labelled items.",
        "probe predict": "Print the most likely classes of videos and images.",
        "probe dense": "Read depth or classes of pixels from tokens.",
        "probe dense-predict": "Write depth or classes of the pixels of images.",
        "probe boxes": "Recognise actions in given boxes (AVA).",
        "anticipate train": "Train anticipation probes on EPIC-KITCHENS-100.",
        "anticipate": "Score action anticipation on EPIC-KITCHENS-100.",
        "surprise": "Compare surprise at possible and impossible videos.",
        "questions": "Write prompts of video questions, and score answers.",
        "segment": "Follow objects through videos (DAVIS).",
        "inspect energy": "Plot the energy over a grid of actions.",
        "inspect probes": "Decode robot and object positions from the latent.",
        "inspect surprise": "Measure prediction errors at impossible events.",
    },
    "Drive a robot arm": {
        "drive": "Move an arm toward goal images; a dry run by default.",
        "serve": "Plan for robots on other machines.",
        "replay": "Show the log of a drive and replan its actions.",
        "calibrate axes": "Estimate the model-to-robot rotation.",
        "check-view": "Check that the camera has not moved.",
        "capture-goal": "Record goal images by moving the arm.",
    },
    "Data and models": {
        "data index": "List usable episodes and rejection reasons.",
        "data view": "Show cameras, states and actions of a data set.",
        "data convert": "Write recorded episodes as a LeRobot data set.",
        "data shapes": "Write labelled videos of moving shapes.",
        "data dense": "Render images with depth and segmentation.",
        "data prepare": "Store episodes as frames or features.",
        "merge": "Join the shards of a command that was split.",
        "doctor": "Check this machine, and name what to install.",
        "plugins": "List robots, environments and other implementations.",
        "models": "List published models, their sizes and licences.",
        "convert": "Convert a checkpoint to safetensors or Hugging Face.",
        "publish": "Write a model for the Hugging Face hub, and upload it.",
        "bench planning": "Compare planning speed with the published loop.",
    },
}
"""Job -> command -> its line in the list of commands."""


def file_name(command: str) -> str:
    """Return a command's name as its module and its folder of recipes have it."""
    return command.replace(" ", "_").replace("-", "_")


COMMANDS = {
    name: Command(f"planning.cli.{file_name(name)}", group, text)
    for group, texts in GROUPS.items()
    for name, text in texts.items()
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
        UsageError: No command has this name.
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


def is_refusal(error: BaseException) -> bool:
    """Return whether an error is the user's to fix; Python's own ValueErrors are bugs."""
    known = isinstance(error, REFUSALS)
    return known and not isinstance(error, BUGS) and type(error) not in (ValueError, RuntimeError)


def overview() -> str:
    """Return the list of commands, grouped by purpose."""
    lines = [
        "worldmodel COMMAND [key=value ...]",
        "",
        "`worldmodel COMMAND --help` lists the options of a command.",
    ]
    for group in GROUPS:
        found = {name: c for name, c in COMMANDS.items() if c.group == group}
        lines += ["", f"{group}:", *(f"  {name:19s} {c.text}" for name, c in found.items())]
    return "\n".join(
        [
            *lines,
            "",
            "Flags:",
            "  --help              Show this list, or the options of a command.",
            "  --cfg job           Print the composed options of a command and stop.",
            "  -m, --multirun      Run a command for each combination of values: key=a,b.",
            "  --version           Print the version.",
            "  --completion SH     Print a completion script for bash, zsh or fish.",
        ]
    )
