"""Read .npz archives, which may come from somebody else."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planning.errors import PlanError

MAX_BYTES = 1 << 32
"""Maximum size of all arrays of an archive; few compressed bytes may say that they are more."""


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an archive, in their order. Nothing in it is executed.

    Raises:
        PlanError: The file is missing, damaged, of another kind, or too large.
    """
    if path.exists() and not path.is_file():
        raise PlanError(f"{path} is not a regular file")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise PlanError(f"{path} holds {size} bytes; at most {MAX_BYTES} are read")
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except PlanError:
        raise
    except Exception as error:  # zip, zlib and NumPy raise errors of many kinds
        why = str(error) or type(error).__name__
        raise PlanError(f"{path} is not a complete npz archive ({why[:300]})") from error
