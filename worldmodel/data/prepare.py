"""Convert episodes to the model's frame rate and size, as frames or as frozen features.

A shard is a safetensors file of a few episodes. It holds `frames` uint8 [F,H,W,3] (or JPEG bytes)
or `features` bfloat16 [F,N,D], `states` [F,S], and `starts`, the first frame of each gap-free run.
Of several views, the frames are [F,V,H,W,3], the JPEG images those of each frame's views in order,
and the features hold the tokens of one view behind those of another. Its hash is stored beside it;
a rerun resumes after the last complete shard.

Shapes: F frames of a shard, V views, H W pixels, N tokens, D width, S state (7).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor
from tqdm import tqdm

from worldmodel.atomic_io import write_json
from worldmodel.checked import Checked, between
from worldmodel.data.cache import code_digest, digest_of
from worldmodel.data.dataset import check_extrinsics, open_row, read_views
from worldmodel.data.files import read_json
from worldmodel.data.index import Manifest
from worldmodel.data.index_store import Row
from worldmodel.data.sampling import grid_runs, states_of
from worldmodel.data.shard_file import is_complete, stored_hash, write_shard
from worldmodel.data.transforms import Preprocess
from worldmodel.errors import ConfigError, DataError
from worldmodel.models.model_hash import model_hash, weights_hash
from worldmodel.models.views import encode_views
from worldmodel.shards import Shard, begin_shard, finish_shard
from worldmodel.specs import DEFAULT_CAMERA, StateFrame, Transform, check_views

Encode = Callable[[Tensor], Tensor]
COMMAND = "data prepare"
PLAN, SUMMARY = "plan.json", "summary.json"


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(Checked):
    """Contents of a shard, recorded in `plan.json`; a folder holds shards of one plan only."""

    fps: float = field(default=4.0, metadata=between(0.01, 1000, "Hz"))
    """Frame rate, measured by the recorded timestamps [Hz]."""
    image_size: int = field(default=256, metadata=between(1, 4096, "px"))
    """Height and width of the frames [px]."""
    transform: Transform = "droid"
    """Kind of the image transform, see `Preprocess`."""
    views: tuple[str, ...] = ()
    """Cameras of each frame, in order; empty for the camera of the index."""
    what: Literal["frames", "features"] = "frames"
    """Whether to store frames or the features of a frozen encoder."""
    codec: Literal["raw", "jpeg"] = "jpeg"
    """Frame codec: `raw` is exact, `jpeg` (quality 95) takes about a tenth of the space."""
    state_frame: StateFrame = "flange"
    """Frame whose pose, in the robot base frame, the states hold."""
    episodes_per_shard: int = field(default=16, metadata=between(1, 100_000))
    """Number of episodes per file."""
    extrinsics: bool = False
    """Whether to store the camera's pose at each frame."""
    encoder_hash: str = ""
    """Hash of the encoder weights that the features were computed with."""
    precision: str = "float32"
    """Data type of the encoder's weights while the features were computed."""


def prepared_views(manifest: Manifest, views: tuple[str, ...]) -> tuple[str, ...]:
    """Return the views to store for `views=`; empty for the camera of the index alone.

    Raises:
        ConfigError: The names are not valid, or the main view is not the index's camera, whose
            times and poses the episodes have.
    """
    check_views(views)
    camera = manifest.summary.get("camera", DEFAULT_CAMERA)
    if views and views[0] != camera:
        raise ConfigError(
            f"views={list(views)}, and the index was made with camera={camera}: name it first, or "
            f"index again with camera={views[0]}"
        )
    return views if len(views) > 1 else ()


def encoder_hash(encoder: torch.nn.Module) -> str:
    """Return a hash (16 hexadecimal digits) of an encoder's weights and configuration.

    The image size and clip length of its training are left out: the options hold the actual ones.
    """
    return model_hash(encoder, without=("image_size", "num_frames"))


def is_encoder(encoder: torch.nn.Module, digest: str) -> bool:
    """Return whether a digest is that of an encoder; older folders hashed the weights alone."""
    return digest in {encoder_hash(encoder), weights_hash(encoder)}


def _jpeg(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _episode(
    manifest: Manifest, row: Row, options: PrepareOptions, transform: Preprocess
) -> list[dict[str, np.ndarray]]:
    """Return frames, states and camera poses of each gap-free run."""
    episode = open_row(manifest, row, views=options.views)
    views = options.views or (row["camera"],)
    if options.extrinsics:
        check_extrinsics(episode, row)
    states = states_of(episode.states_TS[: row["steps"]], options.state_frame).numpy()
    out = []
    for steps in grid_runs(episode.times_s[: row["steps"]], options.fps):
        frames = read_views(episode, views, steps, transform)
        out.append({"frames": frames, "states": states[steps]})
        if options.extrinsics:
            out[-1]["extrinsics"] = episode.extrinsics(row["camera"])[steps].astype(np.float32)
    return out


def pack_runs(
    runs: list[dict[str, np.ndarray]], options: PrepareOptions, encode: Encode | None = None
) -> dict[str, Tensor]:
    """Return the tensors of a shard file: frames, states and the starts of the gap-free runs."""
    whole = {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}
    frames = whole.pop("frames")
    tensors = {name: torch.from_numpy(value) for name, value in whole.items()}
    tensors["starts"] = torch.from_numpy(np.cumsum([0, *(len(run["states"]) for run in runs)]))
    if encode is not None:
        parts = [encode_views(encode, part).cpu() for part in torch.from_numpy(frames).split(16)]
        tensors["features"] = torch.cat(parts).to(torch.bfloat16)
    elif options.codec == "raw":
        tensors["frames"] = torch.from_numpy(frames)
    else:
        images = [_jpeg(frame) for frame in frames.reshape(-1, *frames.shape[-3:])]
        tensors["jpeg"] = torch.frombuffer(bytearray(b"".join(images)), dtype=torch.uint8)
        tensors["offsets"] = torch.from_numpy(np.cumsum([0, *map(len, images)]))
    return tensors


def read_plan(path: Path) -> dict[str, Any]:
    """Read a `plan.json`; options missing from an older file take their defaults.

    Raises:
        DataError: The file does not hold what `prepare` writes.
    """
    plan = read_json(path, path.parent, links="all", reason="plan_unreadable")
    if not isinstance(plan, dict):
        plan = {}
    options, rows = plan.get("options"), plan.get("rows")
    if isinstance(options, dict) and isinstance(rows, list) and all(map(_has_camera, rows)):
        return {**plan, "options": {**asdict(PrepareOptions()), **options}}
    raise DataError(
        f"{path} does not hold what `worldmodel data prepare` writes: delete it and prepare again, "
        "or use another out="
    )


def _has_camera(row: object) -> bool:
    return isinstance(row, dict) and isinstance(row.get("camera"), str)


def prepare(
    manifest: Manifest,
    out: Path,
    options: PrepareOptions,
    transform: Preprocess,
    encode: Encode | None = None,
    *,
    shard: Shard | None = None,
) -> dict[str, Any]:
    """Write all shard files of a manifest, keeping those that are already complete.

    Args:
        manifest: Accepted episodes.
        out: Folder of the shard files and `plan.json`.
        options: Contents of the shard files.
        transform: Image transform to the model's size.
        encode: Function from uint8 frames [B,H,W,3] to tokens [B,N,D]; required for features.
        shard: Part of the files to write, into a folder of its own; `merge_prepared` joins them.

    Returns:
        Numbers of shard files, frames and bytes, and of the files written by this run.

    Raises:
        ConfigError: `out` holds shards of another plan, or `encode` does not match the options.
        DataError: An episode changed since it was indexed, or the disk is full.
    """
    if (options.what == "features") != (encode is not None):
        raise ConfigError(f"what={options.what}: features need an encoder, frames must have none")
    plan = _plan(manifest, options)
    groups = range(0, len(manifest.rows), options.episodes_per_shard)
    folder, record = out, None
    if shard is not None:
        folder = shard.folder(out)
        made_by = {"options": plan["options"], "plan": digest_of(plan), "files": len(groups)}
        record = begin_shard(folder, COMMAND, shard, made_by)
        groups = groups[shard.number :: shard.count]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PLAN
    if path.is_file() and read_plan(path) != plan:
        raise ConfigError(
            f"{out} holds shards of another plan (other options or episodes, changed files or "
            "another version of this package): use another out="
        )
    if shard is None or not shard.number:  # the merge needs the plan, which is long, only once
        write_json(path, plan, indent=None)
    files, num_written, num_frames = [], 0, 0
    for first in tqdm(groups, desc="preparing", unit="shard"):
        file = folder / f"shard-{first // options.episodes_per_shard:06d}.safetensors"
        if not is_complete(file):
            group = manifest.rows[first : first + options.episodes_per_shard]
            _write_group(file, group, manifest, options, transform, encode)
            num_written += 1
        with safe_open(file, framework="pt") as content:
            num_frames += content.get_slice("states").get_shape()[0]
        files.append(file)
    summary = summarise(plan, files, num_written, num_frames)
    if record is None:
        write_json(out / SUMMARY, summary)
    else:
        stamps = {f.name: [f.stat().st_size, stored_hash(f)] for f in files}
        finish_shard(folder, record, {**summary, "stamps": stamps})
    return summary


def _plan(manifest: Manifest, options: PrepareOptions) -> dict[str, Any]:
    plan = {
        "options": asdict(options),
        "root": str(manifest.root),
        "rows": manifest.rows,
        "data": manifest.summary.get("fingerprint", ""),
        "code": code_digest(),
    }
    found: dict[str, Any] = json.loads(json.dumps(plan))
    return found


def _write_group(
    file: Path,
    group: list[Row],
    manifest: Manifest,
    options: PrepareOptions,
    transform: Preprocess,
    encode: Encode | None,
) -> None:
    """Write the shard file of a few episodes."""
    runs = [run for row in group for run in _episode(manifest, row, options, transform)]
    if not runs:
        raise DataError(
            f"No episode of {file.name} has two frames at {options.fps} Hz: index again "
            "with a larger min_seconds"
        )
    write_shard(file, pack_runs(runs, options, encode))


def summarise(
    plan: dict[str, Any], files: list[Path], num_written: int, num_frames: int
) -> dict[str, Any]:
    """Return the values of `summary.json`."""
    return {
        "shards": len(files),
        "made": num_written,
        "bytes": sum(file.stat().st_size for file in files),
        "what": plan["options"]["what"],
        "frames": num_frames,
        "encoder_hash": plan["options"]["encoder_hash"],
        "episodes": len(plan["rows"]),
    }
