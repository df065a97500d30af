"""Convert episodes to the model's frame rate and size, as frames or as frozen features.

A shard is a safetensors file of a few episodes. It holds `frames` uint8 [F,H,W,3] (or JPEG bytes)
or `features` bfloat16 [F,N,D], `states` [F,S], and `starts`, the first frame of each gap-free run.
Its hash is stored beside it; a rerun resumes after the last complete shard.

Shapes: F frames of a shard, H W pixels, N tokens, D width, S state (7).
"""

from __future__ import annotations

import hashlib
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
from safetensors.torch import save as to_bytes
from torch import Tensor
from tqdm import tqdm

from worldmodel.atomic_io import atomic_file, write_json, write_text
from worldmodel.checked import Checked, between
from worldmodel.data.cache import code_digest
from worldmodel.data.dataset import check_extrinsics, open_row
from worldmodel.data.index import Manifest
from worldmodel.data.index_store import Row
from worldmodel.data.sampling import grid_runs, states_of
from worldmodel.data.transforms import Preprocess
from worldmodel.errors import ConfigError, DataError
from worldmodel.models.model_hash import model_hash, weights_hash
from worldmodel.specs import StateFrame, Transform

Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(Checked):
    """Contents of a shard, recorded in `plan.json`; a folder holds shards of one plan only."""

    fps: float = field(default=4.0, metadata=between(0.01, 1000, "Hz"))
    """Frame rate, measured by the recorded timestamps [Hz]."""
    image_size: int = field(default=256, metadata=between(1, 4096, "px"))
    """Height and width of the frames [px]."""
    transform: Transform = "droid"
    """Kind of the image transform, see `Preprocess`."""
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
    episode = open_row(manifest, row)
    if options.extrinsics:
        check_extrinsics(episode, row)
    states = states_of(episode.states_TS[: row["steps"]], options.state_frame).numpy()
    out = []
    for steps in grid_runs(episode.times_s[: row["steps"]], options.fps):
        frames = episode.camera(row["camera"]).frames.read(steps)
        out.append({"frames": transform(torch.from_numpy(frames)).numpy(), "states": states[steps]})
        if options.extrinsics:
            out[-1]["extrinsics"] = episode.extrinsics(row["camera"])[steps].astype(np.float32)
    return out


def _pack(
    runs: list[dict[str, np.ndarray]], options: PrepareOptions, encode: Encode | None
) -> dict[str, Tensor]:
    whole = {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}
    frames = whole.pop("frames")
    tensors = {name: torch.from_numpy(value) for name, value in whole.items()}
    tensors["starts"] = torch.from_numpy(np.cumsum([0, *(len(run["states"]) for run in runs)]))
    if encode is not None:
        parts = [encode(part).cpu() for part in torch.from_numpy(frames).split(16)]
        tensors["features"] = torch.cat(parts).to(torch.bfloat16)
    elif options.codec == "raw":
        tensors["frames"] = torch.from_numpy(frames)
    else:
        images = [_jpeg(frame) for frame in frames]
        tensors["jpeg"] = torch.frombuffer(bytearray(b"".join(images)), dtype=torch.uint8)
        tensors["offsets"] = torch.from_numpy(np.cumsum([0, *map(len, images)]))
    return tensors


def write_shard(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write a shard atomically; return its hash, which is also stored beside it.

    Raises:
        DataError: The write failed, for example on a full disk.
    """
    data = to_bytes({k: v.contiguous() for k, v in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    try:
        with atomic_file(path) as part:
            part.write_bytes(data)
            write_text(path.with_suffix(".sha256"), digest)
    except OSError as error:
        raise DataError(
            f"Cannot write {path}: {error}. Free space, then run the same command: it resumes here"
        ) from error
    return digest


def is_complete(path: Path) -> bool:
    """Return whether a shard exists and matches the hash stored beside it."""
    digest = path.with_suffix(".sha256")
    if not path.is_file() or not digest.is_file():
        return False
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return found == digest.read_text(encoding="utf-8").strip()


def read_plan(path: Path) -> dict[str, Any]:
    """Read a `plan.json`; options missing from an older file take their defaults."""
    plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {**plan, "options": {**asdict(PrepareOptions()), **plan["options"]}}


def prepare(
    manifest: Manifest,
    out: Path,
    options: PrepareOptions,
    transform: Preprocess,
    encode: Encode | None = None,
) -> dict[str, Any]:
    """Write all shards of a manifest, keeping those that are already complete.

    Args:
        manifest: Accepted episodes.
        out: Folder of the shards and `plan.json`.
        options: Contents of the shards.
        transform: Image transform to the model's size.
        encode: Function from uint8 frames [B,H,W,3] to tokens [B,N,D]; required for features.

    Returns:
        Numbers of shards, frames and bytes, and of the shards written by this run.

    Raises:
        ConfigError: `out` holds shards of another plan, or `encode` does not match the options.
        DataError: An episode changed since it was indexed, or the disk is full.
    """
    if (options.what == "features") != (encode is not None):
        raise ConfigError(f"what={options.what}: features need an encoder, frames must have none")
    out.mkdir(parents=True, exist_ok=True)
    rows = manifest.rows
    plan = {
        "options": asdict(options),
        "root": str(manifest.root),
        "rows": rows,
        "data": manifest.summary.get("fingerprint", ""),
        "code": code_digest(),
    }
    plan = json.loads(json.dumps(plan))
    path = out / "plan.json"
    if path.is_file() and read_plan(path) != plan:
        raise ConfigError(
            f"{out} holds shards of another plan (other options or episodes, changed files or "
            "another version of this package): use another out="
        )
    write_json(path, plan, indent=None)
    groups = range(0, len(rows), options.episodes_per_shard)
    num_written = num_frames = num_bytes = 0
    for number, first in enumerate(tqdm(groups, desc="preparing", unit="shard")):
        shard = out / f"shard-{number:06d}.safetensors"
        if not is_complete(shard):
            group = rows[first : first + options.episodes_per_shard]
            runs = [run for row in group for run in _episode(manifest, row, options, transform)]
            if not runs:
                raise DataError(
                    f"No episode of {shard.name} has two frames at {options.fps} Hz: index again "
                    "with a larger min_seconds"
                )
            write_shard(shard, _pack(runs, options, encode))
            num_written += 1
        num_bytes += shard.stat().st_size
        with safe_open(shard, framework="pt") as file:
            num_frames += file.get_slice("states").get_shape()[0]
    summary = {
        "shards": len(groups),
        "made": num_written,
        "bytes": num_bytes,
        "what": options.what,
        "frames": num_frames,
        "encoder_hash": options.encoder_hash,
        "episodes": len(rows),
    }
    write_json(out / "summary.json", summary)
    return summary
