"""`worldmodel train`: an action-conditioned world model from recorded episodes."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from worldmodel.data.memory import open_clips
from worldmodel.errors import ConfigError
from worldmodel.posttrain import PostTrainConfig, posttrain
from worldmodel.train import TrainConfig, train

Options = PostTrainConfig


def joint_options(options: TrainConfig) -> TrainConfig:
    """The options that belong to `mode=joint`."""
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    return TrainConfig(**{name: getattr(options, name) for name in names})


def _joint(options: TrainConfig) -> dict[str, Any]:
    clips = open_clips(options.data, options.num_frames, options.image_size)
    unseen = open_clips(options.val, options.num_frames, options.image_size)
    return train(options, clips, unseen)


def run(options: PostTrainConfig) -> int:
    """Train, print the last row and where the model lies."""
    if options.mode not in {"joint", "post"}:
        raise ConfigError(f"mode={options.mode!r}; allowed: joint, post")
    post = options.mode == "post"
    summary = posttrain(options) if post else _joint(joint_options(options))
    print(json.dumps(summary["last"], indent=2))
    print(f"model: {options.out}/model.safetensors")
    return 0
