"""Read clips of prepared frames or features, with the same batches as from raw files.

Shapes: B clips, K frames, N tokens, D width, S state (7), A action (7).
"""

from __future__ import annotations

import io
import itertools
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

from worldmodel.actions import pose_diff
from worldmodel.data.prepare import PrepareOptions, is_complete
from worldmodel.errors import DataError

Batch = dict[str, Any]


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
        self.plan = json.loads(plan.read_text(encoding="utf-8"))
        self.options = PrepareOptions(**self.plan["options"])
        self.num_frames = num_frames
        count = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["shards"]
        self.shards = [folder / f"shard-{i:06d}.safetensors" for i in range(count)]
        self.states: list[np.ndarray] = []
        self.poses: list[np.ndarray] = []
        items = []
        for number, path in enumerate(self.shards):
            if verify and not is_complete(path):
                raise DataError(
                    f"{path} is damaged (its hash differs): run `worldmodel data prepare "
                    f"out={folder}` again, which replaces it"
                )
            with safe_open(path, framework="pt") as file:
                self.states.append(file.get_tensor("states").numpy())
                if self.options.extrinsics:
                    self.poses.append(file.get_tensor("extrinsics").numpy())
                starts = file.get_tensor("starts").tolist()
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

    def _views(self, shard: int, at: int) -> tuple[str, Any]:
        file, end = self.file(shard), at + self.num_frames
        if self.options.what == "features":
            return "features", file.get_slice("features")[at:end]
        if self.options.codec == "raw":
            return "frames", file.get_slice("frames")[at:end]
        offsets = file.get_slice("offsets")[at : end + 1].tolist()
        data = bytes(file.get_slice("jpeg")[offsets[0] : offsets[-1]].numpy())
        images = [
            np.asarray(Image.open(io.BytesIO(data[a - offsets[0] : b - offsets[0]])))
            for a, b in itertools.pairwise(offsets)
        ]
        return "frames", torch.from_numpy(np.stack(images))

    def batch(self, indices: np.ndarray) -> Batch:
        """Return the clips of some indices.

        Returns:
            `frames` uint8 [B,K,H,W,3] or `features` bfloat16 [B,K,N,D], `states` float32 [B,K,S],
            `actions` float32 [B,K-1,A], and `extrinsics` [B,K,6] if they are stored.
        """
        views, states, name = [], [], "frames"
        for shard, at in self.items[indices]:
            name, view = self._views(int(shard), int(at))
            views.append(view)
            states.append(self.states[shard][at : at + self.num_frames])
        states_BKS = torch.from_numpy(np.stack(states))
        actions_BKA = pose_diff(states_BKS[:, :-1], states_BKS[:, 1:])
        stacked = torch.stack(views)
        out = {
            name: stacked if name == "features" else stacked.numpy(),
            "states": states_BKS.float().numpy(),
            "actions": actions_BKA.float().numpy(),
        }
        if self.poses:
            parts = [self.poses[s][at : at + self.num_frames] for s, at in self.items[indices]]
            out["extrinsics"] = np.stack(parts)
        return out
