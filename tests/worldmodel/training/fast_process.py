"""Runs of `worldmodel` in processes of their own that begin in milliseconds, not seconds.

A server process imports the product once; every run is a fork of it, which can be killed, made a
rank of a group, or given a small disk of its own.
"""

import contextlib
import ctypes
import multiprocessing
import os
import socket
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from planning.cli.app import main

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["planning.cli.app", "planning.cli.compose", "worldmodel.training.run"]
)
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
TIMEOUT_S = 120
"""Longest wait for something that takes seconds when the machine is free."""


def mount_small_disk(folder: Path, size: str) -> None:
    """Mount a tmpfs in a mount namespace of this process's own.

    Raises:
        OSError: not allowed here.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    if libc.mount(b"none", str(folder).encode(), b"tmpfs", 0, f"size={size}".encode()):
        raise OSError(ctypes.get_errno(), "mount")


def _redirect(log: str) -> None:
    with Path(log).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _run(words: list[str], log: str, env: dict[str, str], disk: tuple[Path, str] | None) -> None:
    _redirect(log)
    os.environ.update(env)
    if disk:
        mount_small_disk(*disk)
    sys.exit(main(words))


def _run_ranks_on_one_disk(
    words: list[str], log: str, envs: list[dict[str, str]], disk: tuple[Path, str]
) -> None:
    """Fork all ranks after the disk was mounted, so that they share it; the worst exit code."""
    mount_small_disk(*disk)
    children = []
    for rank, env in enumerate(envs):
        child = os.fork()
        if not child:
            code = 1
            try:
                _redirect(f"{log}.{rank}")
                os.environ.update(env)
                code = main(words)
            finally:
                os._exit(code)
        children.append(child)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))


def start(
    words: list[str],
    log: Path,
    env: dict[str, str] | None = None,
    disk: tuple[Path, str] | None = None,
) -> BaseProcess:
    """Start `worldmodel WORDS`; its output goes to `log`."""
    process = CONTEXT.Process(target=_run, args=(words, str(log), env or {}, disk))
    process.start()
    return process


def start_ranks(
    count: int, words: list[str], log: Path, disk: tuple[Path, str] | None = None
) -> list[BaseProcess]:
    """Start one run of several ranks, as torchrun does; rank R writes to `log.R`.

    Ranks that share a small disk are children of one process.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    envs = [{**shared, "RANK": str(r), "LOCAL_RANK": str(r)} for r in range(count)]
    if disk is None:
        return [start(words, Path(f"{log}.{r}"), env) for r, env in enumerate(envs)]
    process = CONTEXT.Process(
        target=_run_ranks_on_one_disk, args=(words, str(log), envs, disk), daemon=False
    )
    process.start()
    return [process]


def finish(processes: list[BaseProcess]) -> list[int | None]:
    """Wait for processes; returns their exit codes."""
    for process in processes:
        process.join(TIMEOUT_S)
    return [process.exitcode for process in processes]


def wait_for_change(path: Path, process: BaseProcess) -> bool:
    """Wait until a file changes (or appears); whether the process still runs then."""

    def stamp() -> int:
        with contextlib.suppress(FileNotFoundError):
            return path.stat().st_mtime_ns
        return 0

    first, end = stamp(), time.monotonic() + TIMEOUT_S
    while stamp() == first and process.is_alive() and time.monotonic() < end:
        time.sleep(0.002)
    return process.is_alive()
