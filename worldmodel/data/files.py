"""Find and check the files of a data set, which may come from anybody.

Only regular files are opened, so that a FIFO cannot hang a reader. A path that the data name lies
inside the data set. Linked folders are followed, each once.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from worldmodel.atomic_io import PART_SUFFIX
from worldmodel.data.episode import EpisodeError
from worldmodel.errors import DataError

log = logging.getLogger(__name__)
Links = Literal["inside", "all"]
MAX_JSON_BYTES = 2**28
"""Maximum size of a JSON file [bytes]; longer ones are not descriptions of episodes."""
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield each folder under `root` with the sorted names of its folders and files.

    Linked folders are followed, and a folder that is reached twice is yielded once, so a link to a
    folder above it ends. Temporary names are skipped. A folder that cannot be listed is logged.
    """
    seen: set[tuple[int, int]] = set()
    starts = [root]
    for start in starts:  # grows while it is walked: linked folders come after real ones
        for name, folders, files in os.walk(start, onerror=_warn):
            here = Path(name)
            try:
                facts = here.stat()
            except OSError as error:  # removed meanwhile
                _warn(error)
                folders.clear()
                continue
            if (facts.st_dev, facts.st_ino) in seen:
                folders.clear()
                continue
            seen.add((facts.st_dev, facts.st_ino))
            folders[:] = sorted(f for f in folders if not f.endswith(PART_SUFFIX))
            starts += [here / f for f in folders if (here / f).is_symlink()]
            yield here, list(folders), sorted(f for f in files if not f.endswith(PART_SUFFIX))


def _warn(error: OSError) -> None:
    log.warning("a folder of the data set is left out: %s", error)


def inside(root: Path, named: object) -> Path:
    """Return the path under `root` that a data file names.

    Raises:
        EpisodeError: `path_outside`: the path is absolute, leads upwards, or is not a path.
    """
    text = str(named).replace("\\", "/")
    if not text or text[0] == "/" or ".." in text.split("/") or "\0" in text:
        raise EpisodeError(
            "path_outside",
            f"the data name the path {text[:200]!r}; allowed: a path inside the data set",
        )
    return root / text


def require_file(
    path: Path, root: Path, *, links: Links = "inside", missing: str
) -> os.stat_result:
    """Check that `path` is a regular file that may be opened; return its `stat` result.

    Args:
        path: File of a data set.
        root: Folder of the data set.
        links: `inside` refuses a linked file that points out of the data set and out of its own
            folder; `all` allows it.
        missing: Reason code if there is no such file.

    Raises:
        EpisodeError: `missing`, `not_a_file`, or `path_outside`.
    """
    try:
        facts = path.stat()
        outside = links == "inside" and path.is_symlink() and _leaves(path, root)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links
        raise EpisodeError(missing, f"there is no file {_below(path, root)} ({error})") from error
    if not stat.S_ISREG(facts.st_mode):
        kind = KINDS.get(stat.S_IFMT(facts.st_mode), "no regular file")
        raise EpisodeError(
            "not_a_file", f"{_below(path, root)} is {kind}; a regular file is needed"
        )
    if outside:
        raise EpisodeError(
            "path_outside",
            f"{_below(path, root)} is a link to {path.resolve()}, outside the data set: copy the "
            "file, or, if the links are yours, give links=all",
        )
    return facts


def links_outside(paths: Iterable[Path], root: Path, links: Links) -> dict[Path, str]:
    """Return the files found in a folder that are links which may not be followed, and why.

    Args:
        paths: Files that were found under `root`.
        root: The folder that was searched; a file, which was given itself, may be any link.
        links: See `require_file`.
    """
    found = {}
    for path in paths if root.is_dir() else ():
        if path.is_symlink():
            try:
                require_file(path, root, links=links, missing="file_missing")
            except EpisodeError as error:
                found[path] = str(error)
    return found


def _leaves(path: Path, root: Path) -> bool:
    target = path.resolve()
    places = [path.parent, root]
    if root.parent.name == "snapshots":  # of the hub's cache, whose files lie beside as `blobs`
        places.append(root.parents[1] / "blobs")
    return not any(target.is_relative_to(place.resolve()) for place in places)


def _below(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path


def read_json(path: Path, root: Path, *, links: Links = "inside", reason: str) -> Any:
    """Read a JSON file of a data set.

    Args:
        path: The file.
        root: Folder of the data set.
        links: See `require_file`.
        reason: Reason code if the file is missing or not JSON.

    Raises:
        EpisodeError: The file cannot be opened, is too long, or is not JSON.
    """
    facts = require_file(path, root, links=links, missing=reason)
    if facts.st_size > MAX_JSON_BYTES:
        raise EpisodeError(
            reason, f"{path.name} has {facts.st_size} bytes; at most {MAX_JSON_BYTES} are allowed"
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EpisodeError(reason, f"{path.name}: {error}") from error
    except RecursionError as error:
        raise EpisodeError(reason, f"{path.name} is nested too deeply") from error


def read_text(path: Path) -> str:
    """Read a text file that somebody gives, such as a list or a table.

    Raises:
        DataError: It is missing, not a regular file, too long, or not text in UTF-8.
    """
    try:
        facts = path.stat()
        if stat.S_ISREG(facts.st_mode) and facts.st_size <= MAX_JSON_BYTES:
            return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} cannot be read as text ({error.reason} at byte {error.start}): save it as "
            "UTF-8"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error
    kind = KINDS.get(stat.S_IFMT(facts.st_mode), f"{facts.st_size} bytes long")
    raise DataError(
        f"{path} is {kind}; a regular text file of at most {MAX_JSON_BYTES} bytes is needed"
    )


def list_files(root: Path) -> list[Path]:
    """Return all files under `root` in sorted order, also behind linked folders, see `walk`."""
    return sorted(folder / name for folder, _, names in walk(root) for name in names)
