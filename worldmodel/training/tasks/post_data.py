"""Where post-training's clips come from: raw episodes, prepared frames or features."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from worldmodel.data.dataset import RawClips
from worldmodel.data.index import IndexOptions, Manifest, build_index, open_manifest
from worldmodel.data.prepare import encoder_hash
from worldmodel.data.prepared import PreparedClips
from worldmodel.data.readers.droid import ReadOptions
from worldmodel.data.sampling import ClipOptions
from worldmodel.data.transforms import Preprocess
from worldmodel.data.writers.synthetic import write_dataset
from worldmodel.errors import ConfigError, DataError
from worldmodel.models.frame_encoder import FrameEncoder

if TYPE_CHECKING:
    from worldmodel.training.distributed import Ranks
    from worldmodel.training.tasks.post import PostTrainConfig

HELD_OUT = 20
"""One episode in so many is held out when no `val` folder is given."""


class Source(Protocol):
    """Clips by number."""

    def __len__(self) -> int:
        """Number of clips."""
        ...

    def batch(self, indices: np.ndarray) -> dict[str, Any]:
        """`frames` or `features`, `states` and `actions`."""
        ...


def open_sources(
    config: PostTrainConfig, encoder: FrameEncoder | None, ranks: Ranks
) -> tuple[Source, Source]:
    """Training and held-out clips.

    Raises:
        ConfigError: the stored features are another encoder's.
        DataError: nothing there, or too much rejected.
    """
    data, val = Path(config.data), Path(config.val)
    if config.make_data:
        data = val = Path(config.out) / "data"
        if ranks.rank == 0:
            write_dataset(data, episodes=config.make_data, seed=config.seed)
        ranks.barrier()
    if (data / "plan.json").is_file():
        return _prepared(data, config, encoder), _prepared(val, config, encoder)
    manifest = _manifest(data, config, ranks, "index")
    if val in (data, Path()) or str(val) == ".":
        kept = [r for i, r in enumerate(manifest.rows) if i % HELD_OUT]
        held = [r for i, r in enumerate(manifest.rows) if i % HELD_OUT == 0]
        pair = (dataclasses.replace(manifest, rows=kept), dataclasses.replace(manifest, rows=held))
    else:
        pair = (manifest, _manifest(val, config, ranks, "index-val"))
    return _raw(pair[0], config, encoder), _raw(pair[1], config, encoder)


def _manifest(folder: Path, config: PostTrainConfig, ranks: Ranks, name: str) -> Manifest:
    index = folder
    if not (folder / "manifest.jsonl").is_file():
        index = Path(config.out) / name
        if ranks.rank == 0:
            poses: Any = "required" if config.extrinsics else "any"
            read = ReadOptions(camera=config.camera)
            options = IndexOptions(read=read, extrinsics=poses)
            build_index(folder, index, options, workers=os.cpu_count() or 1)
        ranks.barrier()
    manifest = open_manifest(index)
    manifest.check(config.max_reject_fraction)
    return manifest


def _raw(manifest: Manifest, config: PostTrainConfig, encoder: FrameEncoder | None) -> RawClips:
    if encoder is None:
        raise ConfigError("encoder is empty: raw episodes need encoder=NAME (`worldmodel models`)")
    if not manifest.rows:
        raise DataError(f"Too few episodes under {manifest.root} to hold some out: add val=DIR")
    frame: Any = config.state_frame
    idle: Any = config.idle
    options = ClipOptions(
        num_frames=config.num_frames,
        fps=config.fps,
        stride_s=1 / config.fps,
        state_frame=frame,
        idle=idle,
        extrinsics=config.extrinsics,
    )
    kind: Any = config.transform
    height, width = encoder.image_size
    return RawClips(manifest, options, Preprocess(kind, (height, width)), workers=config.workers)


def _prepared(folder: Path, config: PostTrainConfig, encoder: FrameEncoder | None) -> PreparedClips:
    clips = PreparedClips(folder, config.num_frames)
    plan = clips.options
    if plan.fps != config.fps or plan.state_frame != config.state_frame:
        raise ConfigError(
            f"{folder} was prepared with fps={plan.fps}, state_frame={plan.state_frame}; this run "
            f"says fps={config.fps}, state_frame={config.state_frame}: make them equal"
        )
    if config.extrinsics and not plan.extrinsics:
        raise ConfigError(
            f"{folder} was prepared without the camera's poses: prepare it again with "
            "extrinsics=true, or train with extrinsics=false"
        )
    if plan.what == "features" and encoder is not None:
        found = encoder_hash(encoder.backbone)
        if found != plan.encoder_hash:
            raise ConfigError(
                f"{folder} holds features of encoder {plan.encoder_hash}, encoder={config.encoder} "
                f"is {found}: prepare again, or name the encoder that made them"
            )
    if not json.loads((folder / "plan.json").read_text(encoding="utf-8"))["rows"]:
        raise DataError(f"{folder} holds no episode")
    return clips
