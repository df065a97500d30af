"""`worldmodel train`: an action-conditioned world model from recorded episodes."""

from __future__ import annotations

import json

from worldmodel.data.memory import open_clips
from worldmodel.train import TrainConfig, train

Options = TrainConfig


def run(options: TrainConfig) -> int:
    """Open the episodes in memory, train, print where the model lies."""
    clips = open_clips(options.data, options.num_frames, options.image_size)
    unseen = open_clips(options.val, options.num_frames, options.image_size)
    summary = train(options, clips, unseen)
    print(json.dumps(summary["last"], indent=2))
    print(f"model: {options.out}/model.safetensors")
    return 0
