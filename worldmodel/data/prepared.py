"""Read clips of prepared frames or features, with the same batches as from raw files.

Shapes: B clips, K frames, V views, H W pixels, N tokens, D width, S state (7), A action (7).
"""

from __future__ import annotations

import io
import itertools
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

from worldmodel.actions import pose_diff
from worldmodel.data.cache import digest_of
from worldmodel.data.files import read_json
from worldmodel.data.prepare import PrepareOptions, read_plan
from worldmodel.data.shard_file import is_complete, stored_hash
from worldmodel.errors import ConfigError, DataError

Batch = dict[str, Any]
MAX_SHARDS = 1_000_000


def _unreadable(path: Path, what: object) -> DataError:
    return DataError(
        f"{path} does not hold what `worldmodel data prepare` writes: {what}. Prepare it again"
    )


def _read_options(path: Path, options: dict[str, Any]) -> PrepareOptions:
    try:
        return PrepareOptions(**options | {"views": tuple(options.get("views", ()))})
    except (TypeError, ConfigError) as error:
        raise _unreadable(path, error) from error


def _count_shards(folder: Path) -> int:
    path = folder / "summary.json"
    summary = read_json(path, folder, links="all", reason="summary_unreadable")
    count = summary.get("shards") if isinstance(summary, dict) else None
    if type(count) is not int or not 0 <= count <= MAX_SHARDS:
        raise _unreadable(path, f"shards is {count!r}; allowed: 0 to {MAX_SHARDS}")
    return count


def _whole_numbers(file: Any, name: str) -> list[int]:
    """Read a list of int64 from a shard.

    Raises:
        ValueError: It is of another kind.
    """
    values = file.get_tensor(name)
    if values.dtype != torch.int64 or values.ndim != 1:
        raise ValueError(f"{name} is {values.dtype} of shape {list(values.shape)}")
    found: list[int] = values.tolist()
    return found


def _check_views(file: Any, options: PrepareOptions, count: int) -> None:
    """Check that a shard holds a frame, or the features of one, for each of its states.

    Raises:
        ValueError: It does not.
    """
    name = "features" if options.what == "features" else "frames"
    views = max(1, len(options.views))
    if name == "frames" and options.codec == "jpeg":
        offsets, (size,) = _whole_numbers(file, "offsets"), file.get_slice("jpeg").get_shape()
        rises = offsets == sorted(offsets) and offsets[:1] == [0] and offsets[-1] == size
        if (
            not rises
            or len(offsets) != views * count + 1
            or file.get_slice("jpeg").get_dtype() != "U8"
        ):
            raise ValueError(f"its {size} bytes of images are not divided into {views * count}")
        return
    view = file.get_slice(name)
    shape, dtype, side = view.get_shape(), view.get_dtype(), options.image_size
    each = [views] if views > 1 else []
    if name == "frames" and (shape, dtype) == ([count, *each, side, side, 3], "U8"):
        return
    if name == "features" and len(shape) == 3 and shape[0] == count and dtype == "BF16":
        return
    raise ValueError(f"its {name} are {dtype} of shape {shape}, for {count} states")


def _read_runs(
    path: Path, options: PrepareOptions
) -> tuple[np.ndarray, np.ndarray | None, list[int]]:
    """Read states [F,S], camera poses [F,6] and starts of the runs of a shard; check its views."""
    try:
        with safe_open(path, framework="pt") as file:
            states = file.get_tensor("states").numpy()
            poses = file.get_tensor("extrinsics").numpy() if options.extrinsics else None
            starts = _whole_numbers(file, "starts")
            _check_views(file, options, len(states))
    except Exception as error:  # the file is not safetensors, or lacks a tensor
        raise _unreadable(path, error) from error
    fits = states.ndim == 2 and states.shape[1] >= 7 and states.dtype.kind == "f"
    fits &= poses is None or (poses.shape == (len(states), 6) and poses.dtype.kind == "f")
    if not fits or not np.isfinite(states).all():
        raise _unreadable(path, f"its states are {states.shape}, or not finite")
    if not starts or starts[0] != 0 or starts[-1] != len(states) or starts != sorted(starts):
        raise _unreadable(path, f"its runs do not divide {len(states)} frames")
    return states, poses, starts


def _decoded(data: bytes, side: int) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        if image.size != (side, side) or image.mode != "RGB":
            raise ValueError(f"an image is {image.mode} of {image.size}, not RGB of {side} px")
        return np.asarray(image)


class PreparedClips:
    """Every window of `num_frames` consecutive prepared frames.

    Args:
        folder: Folder written by `worldmodel data prepare`.
        num_frames: Frames of a clip.
        verify: Whether to check the hash of every shard on opening.

    Raises:
        DataError: The folder is incomplete, a shard is damaged, or no run is long enough.
    """

    def __init__(self, folder: Path, num_frames: int, *, verify: bool = True) -> None:
        plan = folder / "plan.json"
        if not plan.is_file() or not (folder / "summary.json").is_file():
            raise DataError(
                f"{folder} holds no complete prepared data: run `worldmodel data prepare "
                f"out={folder}`, which resumes an interrupted run"
            )
        facts = read_plan(plan)
        self.options = _read_options(plan, facts["options"])
        self.cameras = {row["camera"] for row in facts["rows"]}
        """Cameras that the episodes were recorded with."""
        self.num_frames = num_frames
        self.shards = [folder / f"shard-{i:06d}.safetensors" for i in range(_count_shards(folder))]
        self.states: list[np.ndarray] = []
        self.poses: list[np.ndarray] = []
        items = []
        for number, path in enumerate(self.shards):
            if verify and not is_complete(path):
                raise DataError(
                    f"{path} is damaged (its hash differs): run `worldmodel data prepare "
                    f"out={folder}` again, which replaces it"
                )
            states, poses, starts = _read_runs(path, self.options)
            self.states.append(states)
            if poses is not None:
                self.poses.append(poses)
            for first, last in itertools.pairwise(starts):
                items += [(number, at) for at in range(first, last - num_frames + 1)]
        if not items:
            raise DataError(f"No run in {folder} has {num_frames} frames: lower num_frames")
        self.items = np.array(items)
        self.file = lru_cache(maxsize=256)(self._open)

    def _open(self, shard: int) -> Any:
        return safe_open(self.shards[shard], framework="pt")

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.items)

    def content_hash(self) -> str:
        """Return a hash of the hashes of all shards."""
        return digest_of([stored_hash(path) for path in self.shards])

    def _views(self, shard: int, at: int) -> tuple[str, Any]:
        try:
            return self._read_views(shard, at)
        except Exception as error:  # a damaged image or a missing tensor, in a shard of any origin
            raise _unreadable(self.shards[shard], error) from error

    def _read_views(self, shard: int, at: int) -> tuple[str, Any]:
        file, end = self.file(shard), at + self.num_frames
        if self.options.what == "features":
            return "features", file.get_slice("features")[at:end]
        if self.options.codec == "raw":
            return "frames", file.get_slice("frames")[at:end]
        views = max(1, len(self.options.views))
        offsets = file.get_slice("offsets")[views * at : views * end + 1].tolist()
        data = bytes(file.get_slice("jpeg")[offsets[0] : offsets[-1]].numpy())
        images = [
            _decoded(data[a - offsets[0] : b - offsets[0]], self.options.image_size)
            for a, b in itertools.pairwise(offsets)
        ]
        frames = torch.from_numpy(np.stack(images))
        return "frames", frames if views == 1 else frames.unflatten(0, (-1, views))

    def batch(self, indices: np.ndarray) -> Batch:
        """Return the clips of some indices.

        Returns:
            `frames` uint8 [B,K,H,W,3] or `features` bfloat16 [B,K,N,D], `states` float32 [B,K,S],
            `actions` float32 [B,K-1,A], and `extrinsics` [B,K,6] if they are stored. Frames of
            several views are [B,K,V,H,W,3].
        """
        views, states, name = [], [], "frames"
        for shard, at in self.items[indices]:
            name, view = self._views(int(shard), int(at))
            views.append(view)
            states.append(self.states[shard][at : at + self.num_frames])
        try:
            states_BKS, stacked = torch.from_numpy(np.stack(states)), torch.stack(views)
        except (RuntimeError, ValueError) as error:  # states or features of several sizes
            raise _unreadable(self.shards[0].parent, error) from error
        actions_BKA = pose_diff(states_BKS[:, :-1], states_BKS[:, 1:])
        out = {
            name: stacked if name == "features" else stacked.numpy(),
            "states": states_BKS.float().numpy(),
            "actions": actions_BKA.float().numpy(),
        }
        if self.poses:
            parts = [self.poses[s][at : at + self.num_frames] for s, at in self.items[indices]]
            out["extrinsics"] = np.stack(parts)
        return out
