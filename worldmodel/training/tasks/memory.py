"""What training tasks on in-memory clips share.

Shapes: B clips, K frames of a clip.
"""

from __future__ import annotations

import numpy as np
import torch

from worldmodel.data.clip_mix import ClipMix
from worldmodel.data.clip_source import ClipSource
from worldmodel.data.memory import MemoryClips
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.training.batches import Batch, to_device
from worldmodel.training.config import FinetuneOptions, FrozenOptions, JointOptions
from worldmodel.training.device_clips import DeviceClips, keeps_on_device
from worldmodel.training.encoded_clips import encode_clips
from worldmodel.training.macro_options import MacroOptions
from worldmodel.training.schedules import warmup_flat_cosine
from worldmodel.training.sources import Sources, choose_clips
from worldmodel.training.task import Task


class MemoryTask(Task):
    """Training on clips in the host's memory, or on the device if they fit there."""

    options: JointOptions | FrozenOptions | FinetuneOptions | MacroOptions
    device: torch.device
    held_out: Batch
    """Clips of the validations, which `build` reads."""
    on_device: DeviceClips | None = None
    """Training clips on the device, which `build` copies; None: in the host's memory."""

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a warm-up, constant and cosine decay."""
        options = self.options
        return warmup_flat_cosine(step, peak=options.optimizer.lr, total=options.loop.steps)

    def load(self, step: int, chosen: np.ndarray, part: slice) -> Batch:
        """Read clips from memory, on the device if they are there."""
        if self.on_device is not None:
            return self.on_device.batch(chosen[part])
        return self._read(self.sources.train, chosen[part])

    def _read(self, clips: ClipSource, chosen: np.ndarray) -> Batch:
        """Read clips and send them to the device."""
        read = {name: torch.from_numpy(array) for name, array in clips.batch(chosen).items()}
        return to_device(read, self.device)

    def _encode_sources(self, encoder: FrameEncoder) -> None:
        """Replace the frames of all clips by their tokens."""
        train, unseen = self.sources.train, self.sources.held_out
        assert isinstance(train, MemoryClips | ClipMix)
        assert isinstance(unseen, MemoryClips)
        bf16 = self.options.loop.bf16
        tokens = encode_clips(train, encoder, bf16=bf16)
        self.sources = Sources(tokens, encode_clips(unseen, encoder, bf16=bf16))

    def _place_clips(self, device: torch.device) -> None:
        """Read the held-out clips, and copy the training clips to the device if they belong there.

        The held-out clips are drawn in random order: the next clip is from another episode.
        """
        options, unseen, clips = self.options, self.sources.held_out, self.sources.train
        self.held_out = self._read(
            unseen, choose_clips(unseen, options.loop.val_clips, options.run.seed)
        )
        if isinstance(clips, MemoryClips | ClipMix) and keeps_on_device(
            clips, device, options.clips.keep_on
        ):
            self.on_device = DeviceClips(clips, device)
