"""Run a command while it holds its output, and log the traceback of an unexpected failure."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_origin, get_type_hints

from planning.cli.commands import LoadedCommand
from planning.cli.fields import UsageError
from planning.cli.sharding import chosen_shard
from planning.shard_options import ShardOptions
from worldmodel.atomic_io import no_links
from worldmodel.errors import ConfigError
from worldmodel.output_guard import output_guard

CRASHES = "crash.log"
"""Name of the file that tracebacks are appended to."""
SHARED = ("train", "pretrain", "probe train", "anticipate train")
"""Commands that share their work among the processes of torchrun."""
NO_INPUTS = ("device", "cache", "partition", "camera", "recipe", "size", "address")
"""Text options that name no input."""


def _texts(options: object) -> Iterator[tuple[str, str]]:
    """Yield the names and values of all text options, also of groups of options."""
    hints = get_type_hints(type(options))
    for name in getattr(type(options), "__dataclass_fields__", {}):
        value = getattr(options, name)
        if dataclasses.is_dataclass(value):
            yield from _texts(value)
        elif isinstance(value, str) and get_origin(hints[name]) is not Literal:
            yield name, value


def _is_same(one: str, other: str) -> bool:
    """Return whether two texts are paths of one file or folder, which may not exist yet."""
    try:
        return one == other or Path(one).samefile(other)
    except (OSError, ValueError):  # missing, or no path at all
        return False


def require_other_output(options: object) -> None:
    """Refuse an output that is one of the inputs, whose files the results would replace.

    Raises:
        UsageError: `out` is the file or folder that another option names.
    """
    texts = list(_texts(options))
    out = next((value for name, value in texts if name == "out"), "")
    for name, value in texts:
        if out and value and name not in ("out", *NO_INPUTS) and _is_same(out, value):
            raise UsageError(
                f"out={out} is the input {name}={value}, whose files the results would replace. "
                "Give another out=."
            )


def require_one_process(name: str) -> None:
    """Refuse to run a command that does not share its work under torchrun.

    Raises:
        UsageError: This is one of several processes.
    """
    count = os.environ.get("WORLD_SIZE", "1")
    if count.isdecimal() and int(count) > 1:
        raise UsageError(
            f"`worldmodel {name}` runs in one process, and torchrun started {count} "
            f"(WORLD_SIZE={count}). Start it without torchrun. Commands that share their work: "
            f"{', '.join(SHARED)}."
        )


def run_command(command: LoadedCommand, options: object) -> int:
    """Run a command; another run that writes the same `out` ends with an error.

    A shard has an output folder of its own. Training takes its lock itself, since its process may
    be a job of a cluster, and so does the merge of shards.

    Raises:
        OutputInUseError: A run that is alive writes to the same output.
        UsageError: The output is one of the inputs, or one process of several runs a command that
            does not share its work.
    """
    require_other_output(options)
    out = getattr(options, "out", "")
    if out and command.name not in SHARED:
        require_one_process(command.name)
    metadata = getattr(type(options), "__dataclass_fields__", {})["out"].metadata if out else {}
    if not out or metadata.get("takes_lock"):
        return command.run(options)
    part = getattr(options, "part", None)
    shard = chosen_shard(part) if isinstance(part, ShardOptions) else None
    path, is_file = Path(out), bool(metadata.get("file"))
    if shard is not None:
        path, is_file = shard.folder(path), False
    with output_guard(path, is_file=is_file):
        return command.run(options)


def log_crash(error: BaseException, words: list[str]) -> str:
    """Append an error's traceback to a log; return the path, or why there is none.

    The log is in the `out` folder that the words name, else in the cache, else in the folder of
    temporary files.
    """
    text = "".join(traceback.format_exception(error))
    head = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(['worldmodel', *words])}\n"
    problem = ""
    for folder in _log_folders(words):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / CRASHES  # perhaps in a folder where others may put a link
            with open(path, "a", encoding="utf-8", errors="replace", opener=no_links) as file:
                file.write(f"{head}{text}\n")
        except OSError as failure:
            problem = f"nowhere ({failure})"
            continue
        return str(folder / CRASHES)
    return problem


def _log_folders(words: list[str]) -> list[Path]:
    from worldmodel.data.cache import cache_root

    folders = []
    for word in words:
        key, _, value = word.partition("=")
        if key.rpartition(".")[2] == "out" and value:
            path = Path(value)
            folders.append(path.parent if path.suffix else path)
    with contextlib.suppress(ConfigError):  # no home folder
        folders.append(cache_root())
    return [*folders, Path(tempfile.gettempdir()) / "worldmodel"]
