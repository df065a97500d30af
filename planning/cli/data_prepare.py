"""`worldmodel data prepare`: store episodes as model-sized frames or as frozen features."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from planning.cli.sharding import chosen_shard
from planning.errors import PlanError
from planning.options import Device, Precision
from planning.ranges import between, check_fields
from planning.shard_options import ShardOptions


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `worldmodel data prepare`."""

    index: str = "runs/index"
    """Folder written by `worldmodel data index`."""
    out: str = "runs/prepared"
    """Output folder of the shards; a rerun resumes after the last complete shard."""
    what: Literal["frames", "features"] = "frames"
    """Content of the shards: frames, or features of a frozen encoder."""
    codec: Literal["jpeg", "raw"] | None = None
    """Frame codec: jpeg (quality 95, the default) or raw, which is exact."""
    image_size: int | None = field(default=None, metadata=between(16, 4096, "px"))
    """Side of the square frames (default: 256, or the encoder's size for features)."""
    transform: Literal["droid", "published", "squeeze"] = "droid"
    """Image transform from recorded frames to the model's input."""
    views: tuple[str, ...] = ()
    """Cameras of each frame, the main one first, such as left,wrist (empty: the camera of the
    index)."""
    fps: float = field(default=4.0, metadata=between(0.01, 1000, "Hz"))
    """Frame rate of the stored frames, selected by the recorded timestamps."""
    state_frame: Literal["flange", "tcp"] = "flange"
    """Frame of the stored robot states."""
    extrinsics: bool = False
    """Store the camera's pose at each frame as well."""
    episodes_per_shard: int = field(default=16, metadata=between(1, 100_000))
    """Number of episodes per shard."""
    max_reject_fraction: float = field(default=0.5, metadata=between(0, 1))
    """Maximum fraction of rejected episodes; above it the command stops."""
    encoder: str = ""
    """Encoder of the features: a published name, a file, random:SIZE, or your own as
    module:Class."""
    device: Device | None = None
    """Device of the encoder (default: auto)."""
    precision: Precision | None = None
    """Data type of the encoder's weights (default: auto, bfloat16 on CUDA devices that have it,
    else float32)."""
    part: ShardOptions = field(default_factory=ShardOptions)
    """Episodes that this run prepares."""

    def __post_init__(self) -> None:
        check_fields(self)
        features = self.what == "features"
        frames_only: dict[str, str | None] = {"codec": self.codec}
        features_only: dict[str, str | None] = {
            "encoder": self.encoder,
            "device": self.device,
            "precision": self.precision,
        }
        unused = frames_only if features else features_only
        for name, value in unused.items():
            if value:
                raise PlanError(
                    f"{name}={value} has no effect with what={self.what}. Leave it out, or use "
                    f"what={'frames' if features else 'features'}."
                )
        if features and not self.encoder:
            raise PlanError(
                "what=features needs encoder=NAME_OR_FILE; `worldmodel models` lists names."
            )


def run(options: Options) -> int:
    """Prepare the shards and print the summary."""
    from planning.apps.own_encoder import open_encoder
    from worldmodel.checkpoints.loading import place
    from worldmodel.data.index import open_manifest
    from worldmodel.data.prepare import PrepareOptions, encoder_hash, prepare, prepared_views
    from worldmodel.data.transforms import Preprocess

    manifest = open_manifest(Path(options.index))
    manifest.check(options.max_reject_fraction)
    encode, digest, side, computed_in = None, "", options.image_size or 256, "float32"
    if options.what == "features":
        model = open_encoder(options.encoder, "cpu", "float32", image_size=side)
        tubelet = model.config.encoder.tubelet_size
        model.set_observation(replace(model.observation_spec, frames_per_token=tubelet))
        if options.image_size not in (None, model.image_size[0]):
            raise PlanError(
                f"image_size={options.image_size} is not the input of encoder={options.encoder}, "
                f"which is {model.image_size[0]}. Leave it out."
            )
        side = model.image_size[0]
        digest = encoder_hash(model.backbone)  # of the weights as their file holds them
        model = place(model, options.device or "auto", options.precision or "auto")
        encode, computed_in = model.encode, str(model.dtype).removeprefix("torch.")
    plan = PrepareOptions(
        fps=options.fps,
        image_size=side,
        transform=options.transform,
        views=prepared_views(manifest, options.views),
        what=options.what,
        codec=options.codec or "jpeg",
        state_frame=options.state_frame,
        episodes_per_shard=options.episodes_per_shard,
        encoder_hash=digest,
        precision=computed_in,
        extrinsics=options.extrinsics,
    )
    transform = Preprocess(options.transform, (side, side))
    shard = chosen_shard(options.part)
    found = prepare(manifest, Path(options.out), plan, transform, encode, shard=shard)
    print(json.dumps(found, indent=2))
    return 0
