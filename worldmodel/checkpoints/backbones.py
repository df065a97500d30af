"""Load DINOv2 and VideoMAE backbones of `transformers`, with specs from their processors.

Code shipped with the weights is never run, and only safetensors are read.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from worldmodel.checkpoints.container import read_json
from worldmodel.checkpoints.hub import is_reachable
from worldmodel.checkpoints.published.huggingface import open_files
from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.models.config import TransformersConfig
from worldmodel.models.model_config import FrameEncoderConfig
from worldmodel.models.transformers_encoder import (
    KINDS,
    TransformersEncoder,
    architecture,
    is_backbone,
    require_weights,
    transformers_package,
)
from worldmodel.specs import IMAGENET_MEAN, IMAGENET_STD, ObservationSpec, Transform

ADAPTER = "adapter_config.json"
"""File that lets the package read the weights of another model."""
LAYER = "encoder.layer."
"""Part of the names of a layer's weights; heads and decoders may be left out, layers not."""
PROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json")
"""Files that may hold an image processor's settings; the first one found is used."""
Three = tuple[float, float, float]


def load_transformers_encoder(name: str | Path) -> TransformersEncoder:
    """Load a DINOv2 or VideoMAE backbone by hub name, or from a folder with config.json.

    Raises:
        CheckpointError: The model is not found in the folder or on the hub, or is not supported.
        ConfigError: The transformers package is not installed.
    """
    config, offline = _open_config(name)
    backbone = _load(name, config, offline)
    return TransformersEncoder(_describe(config, _processor(name, offline)), backbone.eval())


def load_videomae_decoder(name: str | Path) -> Any:
    """Load VideoMAE with its pretraining's decoder: transformers' `VideoMAEForPreTraining`.

    Raises:
        CheckpointError: The model is not found or is none of VideoMAE's, or lacks the decoder, as
            fine-tuned ones do.
        ConfigError: The transformers package is not installed.
    """
    config, offline = _open_config(name)
    return _load(name, config, offline, "VideoMAEForPreTraining").eval()


def _open_config(name: str | Path) -> tuple[Any, bool]:
    """Return a backbone's configuration, and whether the hub cannot be reached.

    Raises:
        CheckpointError: The model is not found in the folder or on the hub, or is not supported.
        ConfigError: The transformers package is not installed.
    """
    package = transformers_package()
    offline = not Path(name).is_dir() and not is_reachable()
    try:
        settings, _ = package.PretrainedConfig.get_config_dict(str(name), local_files_only=offline)
        if not settings:
            raise OSError("it has no config.json.")
    # a config.json that is not an object makes transformers raise the last two
    except (OSError, ValueError, RecursionError, TypeError, AttributeError) as error:
        first = "no connection to the hub, and not in its cache." if offline else _first_line(error)
        raise CheckpointError(
            f"No backbone {str(name)!r}: {first} Give a folder with config.json and "
            "model.safetensors, or a hub name such as facebook/dinov2-small"
        ) from error
    if not is_backbone(settings):
        kind = settings.get("model_type")
        raise CheckpointError(f"{name} is a {kind}; supported backbones: {', '.join(KINDS)}")
    try:
        config = architecture(settings)
        if Path(name).is_dir():
            _require_own_weights(Path(name), config)
    except ConfigError as error:
        raise CheckpointError(f"{name}: {error}") from error
    return config, offline


def _require_own_weights(folder: Path, config: Any) -> None:
    """Check that the weights lie in the folder's own files, and that there are enough of them.

    Raises:
        CheckpointError: A file is missing, damaged or elsewhere.
        ConfigError: The settings describe more weights.
    """
    if (folder / ADAPTER).exists():
        raise CheckpointError(f"{folder} holds {ADAPTER}: merge the adapter into its base model")
    file = open_files(folder)
    require_weights(config, sum(math.prod(file.shape(name)) for name in file.names))


def _load(name: str | Path, config: Any, offline: bool, kind: str = "AutoModel") -> Any:
    """Build a backbone, or another class of the package, with the weights of a folder or hub name.

    Raises:
        CheckpointError: They cannot be read, or lack some, which would be random.
    """
    try:
        backbone, loaded = getattr(transformers_package(), kind).from_pretrained(
            str(name),
            config=config,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=offline,
            output_loading_info=True,
        )
    except Exception as error:  # the package meets odd files with errors of any kind
        raise CheckpointError(
            f"{name}: the weights cannot be read ({_first_line(error)})"
        ) from error
    missing = sorted(loaded["missing_keys"])
    if missing and all("decoder" in key or key == "mask_token" for key in missing):
        raise CheckpointError(
            f"{name} lacks the decoder of VideoMAE's pretraining, which predicts pixels: give a "
            "pretraining model such as MCG-NJU/videomae-base"
        )
    beyond = sorted(key for key in loaded["unexpected_keys"] if LAYER in key)
    for what, names in (("lacks", missing), ("holds, beyond its config.json,", beyond)):
        if names:
            raise CheckpointError(
                f"{name} {what} {len(names)} weights, the first is {names[0]}: download it again"
            )
    return backbone


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _processor(name: str | Path, offline: bool) -> dict[str, Any]:
    """Read the processor settings of a folder or hub name; empty if there are none.

    Raises:
        CheckpointError: Without a network, the hub's cache holds the model but not these settings,
            which give the mean and the standard deviation of the pixels.
    """
    if Path(name).is_dir():
        return read_processor(Path(name))
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        file = hf_hub_download(str(name), PROCESSORS[0], local_files_only=offline)
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{name}: {PROCESSORS[0]} is not in the cache of Hugging Face, and the hub cannot be "
            "reached: load the model once with a network"
        ) from error
    except EntryNotFoundError:
        return {}
    return read_processor(Path(file).parent)


def read_processor(folder: Path) -> dict[str, Any]:
    """Read the image processor settings in a folder; empty if there are none.

    Raises:
        CheckpointError: The file is not a JSON object.
    """
    file = next((folder / name for name in PROCESSORS if (folder / name).is_file()), None)
    return {} if file is None else read_json(file)


def pixel_statistics(processor: dict[str, Any]) -> tuple[Three, Three]:
    """Return the processor's mean and standard deviation of RGB, else ImageNet's."""
    mean = _three(processor.get("image_mean"), IMAGENET_MEAN)
    return mean, _three(processor.get("image_std"), IMAGENET_STD)


def _side(value: Any, default: int) -> int:
    """Parse a processor's size entry: a number, a height and width, or a shortest edge."""
    if isinstance(value, dict):
        value = value.get("height", value.get("shortest_edge", default))
    return int(value) if isinstance(value, int) else default


def _describe(config: Any, processor: dict[str, Any]) -> FrameEncoderConfig:
    """Derive the specs from a backbone's and its image processor's settings."""
    size = config.image_size
    native = int(size if isinstance(size, int) else size[0])
    is_video = config.model_type == "videomae"
    crop = _side(processor.get("crop_size"), _side(processor.get("size"), native))
    if is_video:
        crop = native  # its position table has a fixed size
    crop -= crop % config.patch_size
    short = _side(processor.get("size"), crop)
    transform: Transform = "published" if short > crop else "center_crop"
    if not processor.get("do_center_crop", True):
        transform = "squeeze"
    tubelet = int(config.tubelet_size) if is_video else 1
    mean, std = pixel_statistics(processor)
    observation = ObservationSpec(
        image_size=(crop, crop),
        transform=transform,
        frames_per_token=tubelet,
        pixel_mean=mean,
        pixel_std=std,
    )
    encoder = TransformersConfig(
        settings=json.dumps(json.loads(config.to_json_string(use_diff=True)), sort_keys=True),
        image_size=(crop, crop),
        patch_size=int(config.patch_size),
        embed_dim=int(config.hidden_size),
        tubelet_size=tubelet,
    )
    return FrameEncoderConfig(encoder=encoder, observation=observation)


def _three(values: Any, default: Three) -> Three:
    if values is None:
        return default
    is_three = isinstance(values, list | tuple) and len(values) == 3
    if not is_three or not all(type(v) in {int, float} and math.isfinite(v) for v in values):
        raise CheckpointError(
            f"The image processor's settings hold {values!r} for the mean or standard deviation of "
            "R, G and B; allowed: three numbers"
        )
    red, green, blue = (float(v) for v in values)
    return red, green, blue
