"""`worldmodel features`: write encoder features of videos and images to HDF5."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from planning.cli.sharding import chosen_shard
from planning.cli.summary_beside import summary_path, write_summary
from planning.errors import PlanError
from planning.options import Device, Precision
from planning.ranges import between, check_fields
from planning.shard_options import ShardOptions

if TYPE_CHECKING:
    from worldmodel.perception.features.extract import Result


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `worldmodel features`."""

    videos: str
    """Video or image file, or a folder of them; an image is a clip of one frame."""
    out: str = field(metadata={"file": True})
    """HDF5 file to write; a rerun resumes after the last complete video. FILE.json is its
    summary."""
    model: str = "vjepa2-vitl"
    """Encoder: a published or embedded name, a file, or your own as module:Class."""
    num_frames: int = field(default=16, metadata=between(1, 1024, "frames"))
    """Number of frames per clip."""
    fps: float = field(default=4.0, metadata=between(0.01, 1000, "Hz"))
    """Sampling rate."""
    transform: Literal["published", "droid", "squeeze", "center_crop"] | None = None
    """Image transform from video frames to the model's input (default: the checkpoint's)."""
    dtype: Literal["float16", "float32"] = "float16"
    """Data type of the stored features."""
    device: Device = "auto"
    """Device of the encoder."""
    precision: Precision = "auto"
    """Data type of the weights (auto: bfloat16 on CUDA devices that have it, else float32)."""
    links: Literal["inside", "all"] = "inside"
    """Linked folders are always followed. Linked files of a folder must stay inside it, or may lead
    anywhere (`all`, for your own links)."""
    part: ShardOptions = field(default_factory=ShardOptions)
    """Videos that this run encodes."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.videos or not self.out:
            raise PlanError("videos or out is empty. Give videos=FILE_OR_FOLDER out=FILE.h5.")


def run(options: Options) -> int:
    """Write the features, then print the counts and the rejected videos."""
    from planning.apps.own_encoder import open_any
    from worldmodel.models.frame_encoder import FrameEncoder
    from worldmodel.models.world_model import WorldModel
    from worldmodel.perception.features.extract import FeatureConfig, write_features

    if not Path(options.videos).exists():
        raise PlanError(f"videos={options.videos} does not exist. Give a video file or a folder.")
    out = Path(options.out)
    summary = summary_path(out, "features")
    model = open_any(options.model, options.device, options.precision)
    if not isinstance(model, WorldModel | FrameEncoder):
        raise PlanError(
            f"model={options.model} is not an encoder. `worldmodel models` lists encoders."
        )
    config = FeatureConfig(
        num_frames=options.num_frames,
        fps=options.fps,
        transform=options.transform or model.observation_spec.transform,
        dtype=options.dtype,
    )
    shard = chosen_shard(options.part)
    videos = Path(options.videos)
    result = write_features(
        videos, out, model, options.model, config, shard=shard, links=options.links
    )
    if shard is None:
        facts = asdict(options) | asdict(config) | asdict(result)
        facts.pop("part")
        write_summary(summary, "features", facts)
    print_result(out if shard is None else shard.folder(out), result)
    return 0


def print_result(where: Path, result: Result) -> None:
    """Print counts and the rejected videos."""
    print(f"{where}: {result.clips} clips of {result.videos} videos ({result.skipped} done before)")
    for name, reason in result.rejected.items():
        print(f"rejected {name}: {reason}")
