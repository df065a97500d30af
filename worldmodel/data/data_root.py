"""Find the folder of a data set: the given one, one inside it, or a repository of Hugging Face.

tensorflow-datasets keeps a data set in `NAME/VERSION/` below its `data_dir`, and LeRobot in
`USER/NAME/`: a folder above a single data set stands for it. `hf://USER/NAME` is a data set of the
hub, read from the hub's cache and downloaded on first use.
"""

from __future__ import annotations

import re
from pathlib import Path

from worldmodel.errors import ConfigError, DataError

HUB = re.compile(r"hf:/{1,2}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
"""Address of a data set of the hub; `Path` makes one slash of two."""
MARKS = ("meta/info.json", "features.json")
"""Files that mark the folder of a LeRobot or an RLDS data set."""
DEPTH = 2
"""Folders above a data set that may stand for it."""


def find_root(given: Path | str) -> Path:
    """Return the folder of a data set.

    Args:
        given: Folder, a folder above a single LeRobot or RLDS data set, or `hf://USER/NAME`, to
            which `@REVISION` may be added.

    Raises:
        DataError: The folder does not exist, or the hub does not have the data set.
        ConfigError: The folder holds several data sets; the message lists them.
    """
    address = HUB.fullmatch(str(given))
    if address is not None:
        return find_root(_from_hub(address[1], address[2]))
    root = Path(given).resolve()
    if not root.is_dir():
        raise DataError(
            f"Folder {root} does not exist: give the folder of the episodes (root= of `worldmodel "
            "data index`, data= and val= of `worldmodel train`)"
        )
    if _is_marked(root) or any(root.glob("*.tfrecord*")):
        return root
    for depth in range(1, DEPTH + 1):
        below = sorted(p for p in root.glob("/".join("*" * depth)) if _is_marked(p))
        if len(below) > 1:
            listed = "\n".join(f"  {path}" for path in below[:20])
            raise ConfigError(f"{root} holds {len(below)} data sets; give one of\n{listed}")
        if below:
            return below[0]
    return root


def _is_marked(folder: Path) -> bool:
    return any((folder / mark).is_file() for mark in MARKS)


def _from_hub(repo: str, revision: str | None) -> Path:
    """Return the folder of a data set in the hub's cache, downloading what is missing.

    Without a connection the client returns what the cache holds; HF_HUB_OFFLINE=1 spares it the
    attempts.

    Raises:
        DataError: The hub is unreachable or does not have it, and the cache does not hold it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, repo_type="dataset", revision=revision))
    except (OSError, HFValidationError, LocalEntryNotFoundError) as error:
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(
            f"hf://{repo} cannot be read ({why}). Check the name, the network and, for a private "
            "set, `hf auth login`; or download it elsewhere and give its folder"
        ) from error
