"""Entry point of `worldmodel`: finds the command, composes its options and runs it.

Options are written `key=value`, and values are taken literally. A command is a module with a
dataclass `Options` (or one dataclass per mode in `MODES`) and a function `run(options) -> int`.
"""

from __future__ import annotations

import io
import logging
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

from planning.cli.commands import LoadedCommand, find_command, is_refusal, load_command, overview
from planning.cli.completion import candidates, script
from planning.cli.fields import UsageError
from planning.cli.helptext import command_help
from planning.cli.messages import explain
from planning.cli.run_command import log_crash, run_command
from worldmodel.resources import require_own_packages
from worldmodel.shutdown import exit_status, follows_a_signal, name_of, stop_signals

T = TypeVar("T")
HELP = ("-h", "--help")
SWEEP = ("-m", "--multirun")
CFG = ("-c", "--cfg")


def parse_options(command: str, kind: type[T], words: list[str]) -> T:
    """Build a command's options from `key=value` words; see `planning.cli.compose`."""
    from planning.cli import compose  # Hydra is imported only when options are composed

    return compose.parse_options(command, kind, words)


def compose_options(command: str, words: list[str]) -> object:
    """Build a command's options for the mode selected by the words or the recipe."""
    from planning.cli import compose
    from planning.cli.request import read_request

    request = read_request(command, load_command(command).kinds, words)
    return compose.build(request.kind, compose.compose_tree(request))


def own_version() -> str:
    """Return the version of the installed distribution."""
    try:
        return version("worldmodel")
    except PackageNotFoundError:
        return "unknown (not installed)"


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit status.

    The status is 0 on success, 1 after an unexpected failure, 2 for invalid options or inputs, and
    130, 143 or 129 after SIGINT (Ctrl-C), SIGTERM or SIGHUP.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files and classes may be no text
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        with stop_signals():
            require_own_packages()
            return _dispatch(words)
    except KeyboardInterrupt as error:
        print(f"stopped by {name_of(error)}; finished work is kept", file=sys.stderr)
        return exit_status()
    except BrokenPipeError:  # the output pipe was closed, as in `worldmodel ... | head`
        sys.stdout = None
        return 141
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the last line of defence
        if follows_a_signal(error):  # an error of any kind may take the place of its exception
            then = f"then: {explain(error)}" if is_refusal(error) else "finished work is kept"
            print(f"stopped by a signal; {then}", file=sys.stderr)
            return exit_status()
        if is_refusal(error):
            print(f"error: {explain(error)}", file=sys.stderr)
            return 2
        called = shlex.join(["worldmodel", *words])
        print(
            f"error: `{called}` failed: {type(error).__name__}: {explain(error)}\n"
            f"The traceback is in {log_crash(error, words)}",
            file=sys.stderr,
        )
        return 1


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in (*HELP, "help"):
        print(overview())
        return 0
    if words[0] == "--version":
        print(f"worldmodel {own_version()}")
        return 0
    if words[0] == "--completion":
        print(script(words[1] if len(words) > 1 else ""), end="")
        return 0
    if words[0] == "--complete":
        print("\n".join(candidates(words[1], words[2:])))
        return 0
    name, rest = find_command(words)
    command = load_command(name)
    if any(word in HELP for word in rest):
        print(command_help(command, _mode_of(command, rest)))
        return 0
    return _run(command, rest)


def _mode_of(command: LoadedCommand, words: list[str]) -> str:
    """Return the mode selected by the words or their recipe; empty for a command without modes."""
    chosen = [word for word in words if word.startswith(("mode=", "recipe="))]
    if "" in command.kinds or not chosen:
        return ""
    from planning.cli.request import read_request

    return read_request(command.name, command.kinds, chosen).mode


def _run(command: LoadedCommand, words: list[str]) -> int:
    """Compose the options and run the command, or print them (`--cfg`), or sweep (`-m`)."""
    from omegaconf import OmegaConf

    from planning.cli import compose
    from planning.cli.request import read_request

    words, show = _take_cfg(words)
    sweep = any(word in SWEEP for word in words)
    hydra_words = [word for word in words if word.startswith(("hydra.", "hydra/"))]
    words = [word for word in words if word not in SWEEP and word not in hydra_words]
    if hydra_words and not sweep:
        raise UsageError(f"{hydra_words[0]!r} has an effect only in a sweep. Add -m.")
    request = read_request(command.name, command.kinds, words, sweep=sweep)
    if show:
        if sweep:
            raise UsageError("--cfg prints one run. Leave -m out.")
        print(OmegaConf.to_yaml(OmegaConf.create(compose.compose_tree(request))), end="")
        return 0
    if sweep:
        from planning.cli.sweep import run_sweep

        return run_sweep(request, hydra_words)
    return run_command(command, compose.build(request.kind, compose.compose_tree(request)))


def _take_cfg(words: list[str]) -> tuple[list[str], bool]:
    """Remove `--cfg job` from the words; return the other words and whether it was present."""
    for i, word in enumerate(words):
        if word in CFG:
            if words[i + 1 : i + 2] != ["job"]:
                raise UsageError("--cfg prints the options of a command. Write --cfg job.")
            return words[:i] + words[i + 2 :], True
    return words, False


if __name__ == "__main__":
    raise SystemExit(main())
