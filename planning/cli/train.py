"""`worldmodel train`: an action-conditioned world model from recorded episodes."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from worldmodel.data.memory import open_clips
from worldmodel.errors import ConfigError
from worldmodel.posttrain import PostTrainConfig, posttrain
from worldmodel.slurm import JobOptions, submit, wait
from worldmodel.train import TrainConfig, _text, train


@dataclass(kw_only=True)
class Options(PostTrainConfig):
    """Options of `worldmodel train`."""

    launcher: str = _text("", "post: empty: here; slurm: as a job; local: so, on this machine")
    nodes: int = _text(1, "post, launcher: machines")
    processes_per_node: int = _text(1, "post, launcher: one per GPU")
    minutes: int = _text(60, "post, launcher: time limit")
    partition: str = _text("", "post, launcher=slurm: partition")


def joint_options(options: TrainConfig) -> TrainConfig:
    """The options that belong to `mode=joint`."""
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    return TrainConfig(**{name: getattr(options, name) for name in names})


def _joint(options: TrainConfig) -> dict[str, Any]:
    clips = open_clips(options.data, options.num_frames, options.image_size)
    unseen = open_clips(options.val, options.num_frames, options.image_size)
    return train(options, clips, unseen)


def _job(options: Options) -> dict[str, Any]:
    cluster: Any = options.launcher
    place = JobOptions(
        cluster=cluster, nodes=options.nodes, processes_per_node=options.processes_per_node,
        minutes=options.minutes, partition=options.partition,
    )  # fmt: skip
    job = submit(options, place)
    print(f"job {job.job_id}, logs in {job.paths.folder}")
    return {"last": wait(job)}


def _post(options: Options) -> dict[str, Any]:
    return _job(options) if options.launcher else posttrain(options)


def run(options: Options) -> int:
    """Train, print the last row and where the model lies."""
    if options.mode not in {"joint", "post"}:
        raise ConfigError(f"mode={options.mode!r}; allowed: joint, post")
    post = options.mode == "post"
    summary = _post(options) if post else _joint(joint_options(options))
    print(json.dumps(summary["last"], indent=2))
    print(f"model: {options.out}/model.safetensors")
    return 0
