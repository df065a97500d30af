"""`worldmodel train`: an action-conditioned world model from recorded episodes."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from worldmodel.checkpoints.loading import load_encoder
from worldmodel.data.memory import open_clips
from worldmodel.errors import ConfigError
from worldmodel.training.launching import JobOptions, submit, wait
from worldmodel.training.tasks.joint import Start, TrainConfig, _text, train
from worldmodel.training.tasks.post import PostTrainConfig, posttrain

MODES = ("joint", "post", "frozen", "finetune")


@dataclass(kw_only=True)
class Options(PostTrainConfig):
    """Options of `worldmodel train`."""

    launcher: str = _text("", "post: empty: here; slurm: as a job; local: so, on this machine")
    nodes: int = _text(1, "post, launcher: machines")
    processes_per_node: int = _text(1, "post, launcher: one per GPU")
    minutes: int = _text(60, "post, launcher: time limit")
    partition: str = _text("", "post, launcher=slurm: partition")


def joint_options(options: TrainConfig) -> TrainConfig:
    """The options that belong to `mode=joint`, `frozen` and `finetune`."""
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    return TrainConfig(**{name: getattr(options, name) for name in names})


def _start(options: Options) -> Start | None:
    if options.mode == "joint":
        return None
    encoder = load_encoder(options.encoder, "cpu", seed=options.seed, image_size=options.image_size)
    return Start(
        encoder=encoder, frozen=options.mode == "frozen", lr_scale=options.encoder_lr_scale
    )


def _joint(options: Options) -> dict[str, Any]:
    start = _start(options)
    size, most = options.image_size, options.max_reject_fraction
    clips = open_clips(options.data, options.num_frames, size, max_reject_fraction=most)
    unseen = open_clips(options.val, options.num_frames, size, max_reject_fraction=most)
    if options.object and options.mode != "frozen" and not (clips.labelled and unseen.labelled):
        raise ConfigError(
            f"object={options.object} learns from a simulator's object positions, and not every "
            "episode has them: say object=0, or use episodes of `worldmodel collect`"
        )
    return train(joint_options(options), clips, unseen, start)


def _job(options: Options) -> dict[str, Any]:
    cluster: Any = options.launcher
    workcell = JobOptions(
        cluster=cluster,
        nodes=options.nodes,
        processes_per_node=options.processes_per_node,
        minutes=options.minutes,
        partition=options.partition,
    )
    job = submit(options, workcell)
    print(f"job {job.job_id}, logs in {job.paths.folder}")
    return {"last": wait(job)}


def _post(options: Options) -> dict[str, Any]:
    return _job(options) if options.launcher else posttrain(options)


def run(options: Options) -> int:
    """Train, print the last row and where the model lies."""
    if options.mode not in MODES:
        raise ConfigError(f"mode={options.mode!r}; allowed: {', '.join(MODES)}")
    summary = _post(options) if options.mode == "post" else _joint(options)
    print(json.dumps(summary["last"], indent=2))
    print(f"model: {options.out}/model.safetensors")
    return 0
