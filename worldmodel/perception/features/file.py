"""Groups of an HDF5 file of features: one a video, which grows clip by clip.

Shapes: N tokens, D width.
"""

from __future__ import annotations

import logging
from pathlib import Path

import h5py
import numpy as np
from torch import Tensor

from worldmodel.errors import ConfigError, DataError
from worldmodel.perception.hdf5_file import reserved, source_stamp

log = logging.getLogger(__name__)
ARRAYS = ("features", "times_s")
"""Arrays of a video's group."""


def append(
    group: h5py.Group, features_ND: Tensor, times: list[float], dtype: str, path: Path
) -> None:
    """Append the features of a clip, and the times of its frames, to the group of its video.

    Raises:
        DataError: A value is not finite as `dtype`, or the clip has other sizes than the group.
    """
    with np.errstate(over="ignore"):
        value = features_ND.cpu().numpy().astype(dtype)
    if not np.isfinite(value).all():
        raise DataError(
            f"{path}: its features are not finite as {dtype}: use dtype=float32, or leave it out"
        )
    rows = {"features": value, "times_s": np.asarray(times, np.float64)}
    if "features" not in group:
        for name, row in rows.items():
            group.create_dataset(
                name,
                (0, *row.shape),
                row.dtype,
                maxshape=(None, *row.shape),
                chunks=(1, *row.shape),
            )
    if group["features"].shape[1:] != value.shape:
        raise DataError(
            f"the clip has features {value.shape}, the file {group['features'].shape[1:]}: "
            "the frames changed size; use another out="
        )
    for name, row in rows.items():
        group[name].resize(len(group[name]) + 1, axis=0)
        group[name][-1] = row


def group_of(file: h5py.File, name: str, path: Path) -> tuple[h5py.Group, int]:
    """Return the group of a video, and the number of clips that it holds.

    Raises:
        ConfigError: The file is damaged; the message names it.
    """
    try:
        with reserved(file):
            if name in file and not _is_of(file[name], path):
                log.warning("%s has changed since its features were written: encode it again", path)
                del file[name]
            group = file.require_group(name)
            group.attrs["source"] = source_stamp(path)
            done = min((len(group[key]) for key in ARRAYS if key in group), default=0)
            for key in set(ARRAYS) & set(group):
                group[key].resize(done, axis=0)  # an interrupted run may have written only one
    except (KeyError, RuntimeError, ValueError, TypeError) as error:  # HDF5's answers to damage
        raise ConfigError(f"{file.filename} is damaged ({error}): use another out=") from error
    return group, done


def _is_of(group: h5py.Group | h5py.Dataset, path: Path) -> bool:
    """Return whether a group holds arrays of features that can grow, of a file as it is now."""
    source = group.attrs.get("source")
    if not isinstance(group, h5py.Group) or not isinstance(source, str):
        return False
    arrays = [group[key] for key in ARRAYS if key in group]
    grow = all(isinstance(a, h5py.Dataset) and a.maxshape and not a.maxshape[0] for a in arrays)
    return grow and source == source_stamp(path)


def is_complete(file: h5py.File, name: str, path: Path) -> bool:
    """Return whether a file holds all features of a video as it is now."""
    if name not in file or not path.is_file():
        return False
    mark = file[name].attrs.get("complete")
    return _is_of(file[name], path) and isinstance(mark, bool | np.bool_) and bool(mark)
