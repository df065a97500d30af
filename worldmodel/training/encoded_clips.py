"""In-memory clips of tokens: every frame is encoded once, before a training with a frozen encoder.

Shapes: F frames, N tokens, D width.
"""

from __future__ import annotations

import numpy as np
import torch
from tqdm import tqdm

from worldmodel.data.memory import MemoryClips
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.precision import autocast

BATCH = 256
"""Frames that are encoded at once."""


class EncodedClips:
    """Clips whose frames are replaced by the tokens of a frozen encoder.

    They take 2 bytes per number of a token, and the clips behind them keep their order.
    """

    def __init__(self, clips: MemoryClips, encoder: FrameEncoder, *, bf16: bool = True) -> None:
        """Encode all frames of the clips, in bfloat16 if `bf16`."""
        self.clips = clips
        self.tokens_FND = _encode(clips.arrays["frames"], encoder, bf16)

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.clips)

    def content_hash(self) -> str:
        """Return the hash of the arrays that the tokens were encoded from."""
        return self.clips.content_hash()

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return `features` [B,K,N,D] float32 and the other arrays of the clips."""
        out = self.clips.batch(indices, skip=("frames",))
        out["features"] = self.tokens_FND[self.clips.steps(indices)].astype(np.float32)
        return out


@torch.no_grad()
def _encode(frames_FHWC: np.ndarray, encoder: FrameEncoder, bf16: bool) -> np.ndarray:
    out = []
    for start in tqdm(range(0, len(frames_FHWC), BATCH), desc="encoding", unit="batch"):
        frames = torch.from_numpy(np.array(frames_FHWC[start : start + BATCH]))
        with autocast(encoder.device, bf16=bf16, weights=encoder.dtype):
            z_BND = encoder.encode(frames)
        out.append(z_BND.to("cpu", torch.float16).numpy())
    return np.concatenate(out)
