"""Keys and arrays of a raw DROID episode's trajectory.h5.

An HDF5 file can name other files (external links, external storage, virtual data sets) and declare
sizes that it does not hold. Reads are bounded and, unless `links=all`, stay inside the file.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import h5py
import numpy as np

from worldmodel.data.episode import Array, EpisodeError
from worldmodel.data.files import Links

STATE = "observation/robot_state/cartesian_position"
GRIPPER = "observation/robot_state/gripper_position"
JOINTS = "observation/robot_state/joint_positions"
MOVING = "observation/controller_info/movement_enabled"
SENT = "action/delta"
"""Actions as sent; only our own recordings have them."""
OBJECT = "observation/simulation/object_position"
"""Position of the first object [m]; a label from simulators."""
OBJECT_POSES = "observation/simulation/object_poses"
"""Position [m] and yaw [rad] of each object [T, M, 4]; from simulators, for evaluation."""
EVENTS = ("estimated_capture", "frame_received", "read_start", "read_end")
"""Kinds of camera timestamps in order of preference."""
MAX_VALUES = 2**24
"""Maximum number of values of an array or a chunk; 2^20 steps (19 hours at 15 Hz) of 16 values."""
MAX_HOPS = 8
"""Maximum number of soft links to one array."""
KEY = "trajectory_key_missing"


class Trajectory:
    """Arrays of an open trajectory.h5, and the files beside it.

    Args:
        file: The open file.
        folder: Folder of the episode.
        root: Folder of the data set.
        links: `inside` refuses arrays and files that lie outside; `all` reads them.
    """

    def __init__(self, file: h5py.File, folder: Path, root: Path, links: Links) -> None:
        self.folder, self.root, self.links = folder, root, links
        self._found: dict[str, h5py.Group | h5py.Dataset | None] = {"": file}

    def __contains__(self, key: str) -> bool:
        """Return whether the file has the key.

        Raises:
            EpisodeError: The key is a link to another file, or to nothing.
        """
        return self._find(key) is not None

    def names(self, key: str) -> list[str] | None:
        """Return the sorted names in a group, or None if there is no such group.

        Raises:
            EpisodeError: The key is not a group.
        """
        found = self._find(key)
        if found is not None and not isinstance(found, h5py.Group):
            raise EpisodeError(KEY, f"{key} is an array; a group is needed")
        return None if found is None else sorted(found)

    def read(self, key: str) -> Array:
        """Read a numeric array as float64.

        Raises:
            EpisodeError: The array is missing, null, not numeric, too large, or in another file.
        """
        found = self._find(key)
        if found is None:
            raise EpisodeError(KEY, f"trajectory.h5 has no {key}")
        if not isinstance(found, h5py.Dataset):
            raise EpisodeError(KEY, f"{key} is a group; an array is needed")
        shape, kind = found.shape, found.dtype
        if shape is None:
            raise EpisodeError(KEY, f"{key} is null; an array is needed")
        storage = found.id.get_create_plist()
        layout = storage.get_layout()
        elsewhere = layout == h5py.h5d.VIRTUAL or storage.get_external_count() > 0
        if self.links == "inside" and elsewhere:
            raise _outside(key, "its values lie in other files")
        if kind.kind not in "biuf":
            raise EpisodeError(KEY, f"{key} holds {kind}, not numbers")
        chunks = storage.get_chunk() if layout == h5py.h5d.CHUNKED else ()
        if max(math.prod(shape), math.prod(chunks)) > MAX_VALUES:
            raise EpisodeError(
                "array_too_large",
                f"{key} is {shape} in chunks of {chunks}; at most {MAX_VALUES} values are read",
            )
        if not elsewhere and _num_unwritten(found.id, shape, chunks) > 0:
            raise EpisodeError("values_missing", f"parts of {key} were never written")
        values = np.empty(shape, kind)
        if values.size:  # `found[()]` takes three times as long
            found.id.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
        return values.astype(np.float64, copy=False)

    def rows(self, key: str, steps: int, width: int = 0) -> Array:
        """Read an array [T, width]; width 0 allows any.

        Raises:
            EpisodeError: See `read`; or the array has another shape.
        """
        rows = self.read(key)
        fits = rows.ndim == 2 and len(rows) == steps and rows.shape[1] > 0
        if not fits or (width and rows.shape[1] != width):
            raise EpisodeError(
                "lengths_differ", f"{key} is {rows.shape}; expected [{steps}, {width or 'size'}]"
            )
        return rows

    def _find(self, key: str, hops: int = 0) -> h5py.Group | h5py.Dataset | None:
        """Return what a key names, without ever opening another file."""
        if key not in self._found:
            folder, _, name = key.rpartition("/")
            group = self._find(folder, hops)
            self._found[key] = self._follow(group, name, key, hops)
        return self._found[key]

    def _follow(
        self, group: h5py.Group | h5py.Dataset | None, name: str, key: str, hops: int
    ) -> h5py.Group | h5py.Dataset | None:
        if not isinstance(group, h5py.Group):
            return None
        links, stored = group.id.links, os.fsencode(name)  # a tenth of the time of `group.get`
        if not links.exists(stored):
            return None
        if links.get_info(stored).type == h5py.h5l.TYPE_HARD or self.links == "all":
            return _opened(group, name, key)
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise _outside(key, f"it is a link to {link.filename!r}")
        if not isinstance(link, h5py.SoftLink):
            return _opened(group, name, key)
        target = link.path if link.path.startswith("/") else f"{group.name}/{link.path}"
        target = "/".join(part for part in target.split("/") if part not in {"", "."})
        found = self._find(target, hops + 1) if hops < MAX_HOPS else None
        if found is None:
            raise EpisodeError(KEY, f"{key} is a link to {link.path}, which is not there")
        return found


def _num_unwritten(
    array: h5py.h5d.DatasetID, shape: tuple[int, ...], chunks: tuple[int, ...]
) -> int:
    """Return the number of chunks that hold no values, in place of which HDF5 returns zeros.

    A recorder leaves them that makes its arrays first and ends before it fills them.
    """
    if not math.prod(shape):
        return 0
    if not chunks:
        return int(array.get_storage_size() == 0)
    pairs = zip(shape, chunks, strict=True)
    return math.prod(-(-size // chunk) for size, chunk in pairs) - int(array.get_num_chunks())


def _opened(group: h5py.Group, name: str, key: str) -> h5py.Group | h5py.Dataset:
    try:
        return group[name]
    except KeyError as error:  # also HDF5's answer to a damaged description of an array
        raise EpisodeError("trajectory_unreadable", f"{key} cannot be opened: {error}") from error


def _outside(key: str, why: str) -> EpisodeError:
    return EpisodeError(
        "path_outside",
        f"{key} of trajectory.h5: {why}. Copy the values into the file, or, if the links are "
        "yours, give links=all",
    )
