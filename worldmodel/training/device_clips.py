"""In-memory clips whose arrays are on the device, so that no step waits for the host's memory.

Shapes: B clips, K frames of a clip, C all clips, F frames of all sequences.
"""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from worldmodel.data.clip_mix import ClipMix, MemorySource
from worldmodel.data.memory import MemoryClips
from worldmodel.training.batches import Batch, sent

Keep = Literal["auto", "host", "device"]
"""Where the arrays of clips are kept."""
MAX_SHARE = 0.5
"""Maximum share of a device's free memory that `auto` takes."""
CHUNK = 4096
"""Frames that are copied at once."""
log = logging.getLogger(__name__)


class DeviceClips:
    """The same clips as `MemoryClips` or a `ClipMix`, in batches that are made on the device."""

    def __init__(self, clips: MemorySource, device: torch.device) -> None:
        """Copy all arrays to the device."""
        parts = clips.parts if isinstance(clips, ClipMix) else [clips]
        sizes = [len(part.arrays["states"]) for part in parts]
        self.device, self.num_frames = device, parts[0].num_frames
        self.arrays = {
            name: _joined([part.served[name] for part in parts], device) for name in parts[0].served
        }
        self.firsts_C = parts[0].firsts
        """First frame of each clip."""
        if isinstance(clips, ClipMix):
            begins = np.cumsum([0, *sizes[:-1]])
            self.firsts_C = np.empty(len(clips), np.int64)
            for number, part in enumerate(parts):
                here = clips.part_C == number
                self.firsts_C[here] = begins[number] + part.firsts[clips.clip_C[here]]

    def batch(self, indices: np.ndarray) -> Batch:
        """Return what `MemoryClips.batch` returns, as tensors on the device."""
        first_B = sent(torch.from_numpy(self.firsts_C[indices]), self.device)
        steps_BK = first_B[:, None] + torch.arange(self.num_frames, device=self.device)
        out = {name: array[steps_BK] for name, array in self.arrays.items()}
        out["actions"] = out["actions"][:, :-1].contiguous()
        if "features" in out:
            out["features"] = out["features"].float()
        return out


def _joined(arrays: list[np.ndarray], device: torch.device) -> Tensor:
    """Return arrays on a device, one behind the other, copied in chunks."""
    size = (sum(map(len, arrays)), *arrays[0].shape[1:])
    out = torch.empty(size, dtype=torch.from_numpy(np.array(arrays[0][:1])).dtype, device=device)
    begin = 0
    for array in arrays:
        for start in range(0, len(array), CHUNK):
            chunk = torch.from_numpy(np.array(array[start : start + CHUNK]))
            out[begin : begin + len(chunk)].copy_(chunk)
            begin += len(chunk)
    return out


def num_bytes(clips: MemorySource) -> int:
    """Return the size of the arrays that batches consist of [bytes]."""
    parts: list[MemoryClips] = clips.parts if isinstance(clips, ClipMix) else [clips]
    return sum(array.nbytes for part in parts for array in part.served.values())


def keeps_on_device(clips: MemorySource, device: torch.device, keep: Keep) -> bool:
    """Whether the arrays of clips are to be copied to the device.

    With `auto` that is the case if the device has memory of its own, and at least twice as much
    free as they take.
    """
    if keep != "auto" or device.type != "cuda":
        return keep == "device"
    free, size = torch.cuda.mem_get_info(device)[0], num_bytes(clips)
    fits = size <= MAX_SHARE * free
    where = "the device's" if fits else "the host's"
    log.info("clips of %.1f GB stay in %s memory (%.1f GB free)", size / 1e9, where, free / 1e9)
    return fits
