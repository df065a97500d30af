"""`worldmodel pretrain`: a video encoder from masked latent prediction, without labels."""

from __future__ import annotations

import json
from dataclasses import dataclass

from worldmodel.data.memory import open_clips
from worldmodel.training.tasks.pretrain import PretrainConfig, pretrain


@dataclass(kw_only=True)
class Options(PretrainConfig):
    """Options of `worldmodel pretrain`."""


def run(options: Options) -> int:
    """Pretrain, print the last row, where the encoder lies and how to train on it."""
    clips = open_clips(options.data, options.num_frames, options.image_size)
    unseen = open_clips(options.val, options.num_frames, options.image_size)
    summary = pretrain(options, clips, unseen)
    print(json.dumps(summary["last"], indent=2))
    path = f"{options.out}/encoder.safetensors"
    print(f"encoder: {path}")
    print(f"next: worldmodel train mode=frozen encoder={path} image_size={options.image_size}")
    return 0
