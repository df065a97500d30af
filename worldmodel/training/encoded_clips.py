"""In-memory clips of tokens: every frame is encoded once, before a training with a frozen encoder.

Shapes: F frames, V views, H W pixels, N tokens, D width.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from worldmodel.data.clip_mix import ClipMix, MemorySource
from worldmodel.data.memory import MemoryClips
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.precision import autocast
from worldmodel.models.views import encode_views
from worldmodel.training.batches import sent

BATCH = 256
"""Frames that are encoded at once."""


def encode_clips(clips: MemorySource, encoder: FrameEncoder, *, bf16: bool = True) -> MemorySource:
    """Encode all frames of the clips, in bfloat16 if `bf16`.

    The tokens take 2 bytes per number, and the clips keep their order.
    """
    if isinstance(clips, ClipMix):
        return clips.mapped(partial(_encoded, encoder=encoder, bf16=bf16))
    return _encoded(clips, encoder, bf16)


def _encoded(clips: MemoryClips, encoder: FrameEncoder, bf16: bool) -> MemoryClips:
    return clips.with_tokens(_encode(clips.arrays["frames"], encoder, bf16))


@torch.no_grad()
def _encode(frames: np.ndarray, encoder: FrameEncoder, bf16: bool) -> np.ndarray:
    """Return the tokens [F, N, D] float16 of all frames [F, H, W, 3], of views [F, V, H, W, 3]."""
    out = []
    for start in tqdm(range(0, len(frames), BATCH), desc="encoding", unit="batch"):
        part = torch.from_numpy(np.array(frames[start : start + BATCH]))
        with autocast(encoder.device, bf16=bf16, weights=encoder.dtype):
            z_BND = encode_views(encoder.encode, sent(part, encoder.device))
        out.append(z_BND.half())
    return torch.cat(out).cpu().numpy()
