"""Open the clips of a run: episodes in memory, raw episodes, prepared frames or features."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from worldmodel.data.clip_mix import ClipMix, MemorySource
from worldmodel.data.clip_source import ClipSource
from worldmodel.data.dataset import RawClips
from worldmodel.data.index import Manifest, build_index, open_manifest
from worldmodel.data.inspection import IndexOptions
from worldmodel.data.memory import MemoryClips, PoseLabels, open_clips
from worldmodel.data.position_clips import PositionClips
from worldmodel.data.prepare import encoder_hash, is_encoder
from worldmodel.data.prepared import PreparedClips
from worldmodel.data.readers.options import CONTROL_HZ, ReadOptions
from worldmodel.data.sampling import ClipOptions
from worldmodel.data.transforms import Preprocess
from worldmodel.data.writers.synthetic import write_dataset
from worldmodel.errors import ConfigError, DataError
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.processes import usable_cores
from worldmodel.training.batches import require_divisible
from worldmodel.training.clip_options import ClipConfig, ContactClipConfig, PostClipConfig
from worldmodel.training.config import PostOptions
from worldmodel.training.distributed import Ranks
from worldmodel.training.run_options import RunConfig

log = logging.getLogger(__name__)
VIEWS = {"left", "right", "wrist"}
"""Camera names with the same meaning in every data set."""
HELD_OUT = 20
"""One in this many episodes is held out if no `val` folder is given."""


@dataclass(frozen=True)
class Sources:
    """Training and held-out clips of a run."""

    train: ClipSource
    held_out: ClipSource

    def require(self, batch_size: int, accumulate: int, ranks: int) -> None:
        """Check that the data suffice for a batch and that it is divisible.

        Raises:
            ConfigError: There are too few clips, or the batch is not divisible.
        """
        require_divisible(batch_size, accumulate, ranks)
        if len(self.train) < batch_size:
            raise ConfigError(
                f"{len(self.train)} clips are fewer than batch_size={batch_size}: collect more "
                "episodes or lower batch_size"
            )


def choose_clips(source: ClipSource, count: int, seed: int) -> np.ndarray:
    """Draw the indices of up to `count` distinct clips, in random order."""
    rng = np.random.default_rng(seed)
    return rng.choice(len(source), size=min(count, len(source)), replace=False)


def open_memory(
    run: RunConfig,
    config: ClipConfig,
    image_size: int,
    ranks: Ranks,
    *,
    labels: PoseLabels = "none",
) -> tuple[MemorySource, MemoryClips]:
    """Open training and held-out clips of episodes that fit in memory.

    The training clips are those of `run.data`, mixed with those of `more_data` if there are any.

    Rank 0 decodes missing episodes; the others wait and read its result.

    Raises:
        DataError: There is no episode, or more were rejected than allowed; the message lists the
            reasons.
    """
    shares, rotation = (0.0, 0.0), True
    views: tuple[str, ...] = (config.camera,)
    more: tuple[str, ...] = ()
    more_shares: tuple[float, ...] = ()
    if isinstance(config, ContactClipConfig):
        shares = config.contact_share, config.hindsight_share
        rotation, views = config.actions == "pose", config.cameras
        more, more_shares = config.more_data, config.more_shares

    def open_folder(folder: str, contacts: float = 0.0, known: float = 0.0) -> MemoryClips:
        return open_clips(
            folder,
            config.num_frames,
            image_size,
            transform=config.transform,
            views=views,
            links=config.links or "inside",
            rlds_fps=config.rlds_fps or CONTROL_HZ,
            fps=config.fps,
            workers=usable_cores(),
            max_reject_fraction=config.max_reject_fraction,
            cache=config.cache,
            labels=labels,
            contact_share=contacts,
            hindsight_share=known,
            rotation=rotation,
        )

    if ranks.rank:
        ranks.barrier()
    parts = [open_folder(run.data, *shares), *map(open_folder, more)]
    train: MemorySource = parts[0]
    if more:
        train = ClipMix(parts, [1 - sum(more_shares), *more_shares], [run.data, *more])
    held_out = open_folder(run.val)
    if not ranks.rank:
        ranks.barrier()
    return train, held_out


def open_post(options: PostOptions, encoder: FrameEncoder | None, ranks: Ranks) -> Sources:
    """Open training and held-out clips of post-training, with or without rotation.

    Raises:
        ConfigError: The stored features are from another encoder.
        DataError: There is no data, or too much of it was rejected.
    """
    found = _open_post(options, encoder, ranks)
    if options.clips.actions == "pose":
        return found
    return Sources(PositionClips(found.train), PositionClips(found.held_out))


def _open_post(options: PostOptions, encoder: FrameEncoder | None, ranks: Ranks) -> Sources:
    """Open training and held-out clips of post-training, with states and actions as poses.

    Raises:
        ConfigError: The stored features are from another encoder.
        DataError: There is no data, or too much of it was rejected.
    """
    run, make = options.run, options.clips.make_data
    data, val = Path(run.data), Path(run.val)
    if make:
        data = val = Path(run.out) / "data"
        if ranks.rank == 0:
            write_dataset(data, episodes=make, seed=run.seed)
        ranks.barrier()
    if (data / "plan.json").is_file():
        return Sources(_prepared(data, options, encoder), _prepared(val, options, encoder))
    manifest = _manifest(data, options, ranks, "index")
    if val in (data, Path()):
        kept = [r for i, r in enumerate(manifest.rows) if i % HELD_OUT]
        held = [r for i, r in enumerate(manifest.rows) if i % HELD_OUT == 0]
        pair = (dataclasses.replace(manifest, rows=kept), dataclasses.replace(manifest, rows=held))
    else:
        pair = (manifest, _manifest(val, options, ranks, "index-val"))
    return Sources(_raw(pair[0], options, encoder), _raw(pair[1], options, encoder))


def _manifest(folder: Path, options: PostOptions, ranks: Ranks, name: str) -> Manifest:
    index = folder
    if not (folder / "manifest.jsonl").is_file():
        index = Path(options.run.out) / name
        if ranks.rank == 0:
            read = ReadOptions(
                camera=options.clips.cameras[0],
                views=_several(options.clips),
                links=options.clips.links or "inside",
                rlds_fps=options.clips.rlds_fps or CONTROL_HZ,
            )
            poses: Literal["any", "required"] = "required" if options.clips.extrinsics else "any"
            index_options = IndexOptions(read=read, extrinsics=poses)
            build_index(folder, index, index_options, workers=usable_cores())
        ranks.barrier()
    manifest = open_manifest(index)
    manifest.check(options.clips.max_reject_fraction)
    _require_reading(folder, options.clips, manifest.summary)
    cameras = {str(row["camera"]) for row in manifest.rows}
    _require_camera(folder, cameras, options.clips.cameras[0])
    return manifest


def _several(clips: PostClipConfig) -> tuple[str, ...]:
    """Return the views of a run; empty for one."""
    return clips.cameras if len(clips.cameras) > 1 else ()


def _require_camera(folder: Path, found: set[str], camera: str) -> None:
    """Check that the index or prepared data use the run's camera.

    Raises:
        ConfigError: They use another named camera; serial numbers are not compared.
    """
    other = sorted((found & VIEWS) - {camera})
    if camera in VIEWS and other:
        raise ConfigError(
            f"{folder} was made with camera={other[0]}; this run says camera={camera}: make them "
            "equal"
        )


def _require_reading(folder: Path, clips: PostClipConfig, known: Mapping[str, object]) -> None:
    """Check that an index was made as the run says, and that prepared data are not read again.

    Args:
        folder: Folder of the index or of the prepared data.
        clips: Options of the run.
        known: How the episodes were read; an older index lacks entries.

    Raises:
        ConfigError: The index says otherwise, or the option would have no effect.
    """
    for name in ("links", "rlds_fps"):
        asked = getattr(clips, name)
        if asked is not None and asked != known.get(name):
            how = f"with {name}={known[name]}" if name in known else "before this run"
            raise ConfigError(
                f"{name}={asked} has no effect on {folder}, which was made {how}: leave it out, or "
                "make the data again with it"
            )


def _raw(manifest: Manifest, options: PostOptions, encoder: FrameEncoder | None) -> RawClips:
    if encoder is None:
        raise ConfigError("encoder is empty: raw episodes need encoder=NAME (`worldmodel models`)")
    if not manifest.rows:
        raise DataError(f"Too few episodes under {manifest.root} to hold some out: add val=DIR")
    clips = options.clips
    clip_options = ClipOptions(
        num_frames=clips.num_frames,
        fps=clips.fps,
        stride_s=1 / clips.fps,
        state_frame=clips.state_frame,
        idle=clips.idle,
        views=_several(clips),
        extrinsics=clips.extrinsics,
    )
    transform = Preprocess(clips.transform, encoder.image_size)
    return RawClips(manifest, clip_options, transform, workers=clips.workers)


def _prepared(folder: Path, options: PostOptions, encoder: FrameEncoder | None) -> PreparedClips:
    clips, asked = PreparedClips(folder, options.clips.num_frames), options.clips
    plan = clips.options
    _require_reading(folder, asked, {})
    for name in ("fps", "state_frame", "transform"):
        found, expected = getattr(plan, name), getattr(asked, name)
        if found != expected:
            raise ConfigError(
                f"{folder} was prepared with {name}={found}; this run says {name}={expected}: make "
                "them equal"
            )
    if plan.views != _several(asked):
        raise ConfigError(
            f"{folder} was prepared with views={list(plan.views)}; this run says "
            f"views={list(_several(asked))}: make them equal"
        )
    if asked.extrinsics and not plan.extrinsics:
        raise ConfigError(
            f"{folder} was prepared without the camera's poses: prepare it again with "
            "extrinsics=true, or train with extrinsics=false"
        )
    named = encoder.backbone if plan.what == "features" and encoder is not None else None
    if named is not None and not is_encoder(named, plan.encoder_hash):
        raise ConfigError(
            f"{folder} holds features of encoder {plan.encoder_hash}, "
            f"encoder={options.start.encoder} is {encoder_hash(named)}: prepare again, or name the "
            "encoder that made them"
        )
    if not clips.cameras:
        raise DataError(f"{folder} holds no episode")
    _require_camera(folder, clips.cameras, asked.cameras[0])
    return clips
