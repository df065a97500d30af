"""Cache of recomputable results, kept outside the user's data folders.

The cache folder is the `cache=` option, else the environment variable WORLDMODEL_CACHE, else
`worldmodel` in the platform's user cache folder. It may be deleted at any time. A slot belongs to
one data folder and one set of options. It holds one version at a time, named by a hash of all
inputs, so that changed data or code never reuses an old result.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import functools
import hashlib
import io
import json
import os
import shutil
import sys
import threading
import tokenize
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from worldmodel.atomic_io import atomic_folder, no_links
from worldmodel.errors import ConfigError

VARIABLE = "WORLDMODEL_CACHE"


def cache_root(cache: str | Path = "") -> Path:
    """Return the cache folder, which may not exist yet.

    Args:
        cache: Value of the `cache=` option; empty if it was not given.

    Raises:
        ConfigError: Neither the option, nor WORLDMODEL_CACHE, nor a home folder is set.
    """
    chosen = str(cache) or os.environ.get(VARIABLE, "")
    if not chosen:
        return _user_caches() / "worldmodel"
    try:
        return Path(chosen).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"The cache folder {chosen} cannot be resolved: {error} Pass cache=DIR or set "
            f"{VARIABLE} to a path without ~"
        ) from error


def _user_caches() -> Path:
    """Return the platform's user cache folder."""
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    if os.environ.get(variable):
        return Path(os.environ[variable])
    try:
        home = Path.home()
    except RuntimeError as error:
        raise ConfigError(
            f"No folder for caches: this user has no home folder ({error}). Pass cache=DIR (for "
            f"example beside out=) or set {VARIABLE}"
        ) from error
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache")


@functools.cache
def code_digest() -> str:
    """Return a hash of the data code, so that a code change invalidates cached results.

    Comments, docstrings and blank lines do not count.
    """
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for name in ("data", "models/preprocess.py", "actions.py", "constants.py"):
        path = package / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(_statements(file.read_text("utf-8")).encode())
    return digest.hexdigest()[:16]


def _statements(source: str) -> str:
    """Return the lines of Python code without comments, docstrings and blank lines.

    The text is the same for every version of Python, unlike a dump of its syntax tree.
    """
    lines = source.splitlines()
    if "#" in source:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            first, last = node.lineno - 1, node.end_lineno or node.lineno
            if isinstance(node.value.value, str):
                lines[first:last] = [""] * (last - first)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def digest_of(facts: object) -> str:
    """Return a hash (16 hexadecimal digits) of a JSON serialisable value."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def cache_slot(
    kind: str, data: Path, options: Mapping[str, object], cache: str | Path = ""
) -> Path:
    """Return the cache slot for one kind of result from one data folder, created if missing.

    Args:
        kind: Kind of result, such as `index` or `frames`.
        data: Data folder; paths that resolve to the same folder share a slot.
        options: Options that the result depends on.
        cache: Value of the `cache=` option.

    Raises:
        ConfigError: The cache folder cannot be created or written to.
    """
    data = data.resolve()
    key = digest_of({"data": str(data), "options": options})
    slot = cache_root(cache) / kind / f"{data.name}-{key}"
    try:
        slot.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"Cannot write to the cache folder {cache_root(cache)}: {error}. Pass cache=DIR (for "
            f"example beside out=) or set {VARIABLE} to a folder that you may write to"
        ) from error
    return slot


_threads = threading.RLock()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` during the block; other processes and threads wait.

    It is a POSIX lock: it is released even if its process is killed, and worker processes do not
    inherit it.
    """
    with _threads, open(path, "a", encoding="utf-8", opener=no_links) as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def cached_folder(slot: Path, version: str, build: Callable[[Path], None]) -> Iterator[Path]:
    """Yield the folder of a version in a slot; if missing, build it and drop other versions.

    The slot is locked during the block, so a second process waits for the result, and the folder
    cannot be dropped while its files are being opened. Open or memory-mapped files stay readable
    after the block even if another process drops the folder.

    Args:
        slot: Folder returned by `cache_slot`.
        version: Name of the version; it must change whenever the result changes.
        build: Function that fills an empty folder; if it raises, nothing is kept.
    """
    with locked(slot / "lock"):
        folder = slot / version
        if not folder.is_dir():
            with atomic_folder(folder) as part:
                build(part)
            for other in slot.iterdir():
                if other.is_dir() and other != folder:
                    shutil.rmtree(other, ignore_errors=True)
        yield folder
