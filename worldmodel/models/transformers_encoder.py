"""Backbones of the `transformers` package (DINOv2, VideoMAE) as frame encoders.

DINO-WM (arXiv 2411.04983) and JEPA-WMs (arXiv 2512.24497) plan on such frozen features. The package
is an extra (`pip install 'worldmodel[hf]'`) and is imported when a backbone is built. Code shipped
with the weights is never run, and only safetensors are read. Of the settings, which come from a
file, only the sizes and switches of the architecture are used: others name code, such as attention
kernels of the hub (`_attn_implementation`), or other files.

Shapes: B frames or clips, T frames of a clip, H W pixels, C channels, N tokens, D width.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from worldmodel.errors import ConfigError
from worldmodel.models.config import TransformersConfig
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.model_config import FrameEncoderConfig

KINDS = {"dinov2": "Dinov2Config", "videomae": "VideoMAEConfig"}
"""Supported values of `model_type`, and their classes of settings."""
MAX_LAYERS, MAX_SIZE = 1024, 2**16
"""Maximum number of layers, and of any other whole number in the settings."""


def transformers_package() -> Any:
    """Import the transformers package.

    Raises:
        ConfigError: The package is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            "This encoder needs the transformers package: pip install 'worldmodel[hf]'"
        ) from error
    return transformers


class TransformersEncoder(FrameEncoder):
    """A DINOv2 or VideoMAE backbone, whose patch tokens are the frame's tokens."""

    def __init__(
        self,
        config: FrameEncoderConfig,
        backbone: nn.Module | None = None,
        *,
        most: int | None = None,
    ) -> None:
        """Wrap a backbone, or build one with at most `most` weights from the settings."""
        super().__init__(config)
        assert isinstance(config.encoder, TransformersConfig)
        self.settings: dict[str, Any] = _settings(config.encoder.settings)
        self.backbone = backbone or _build(self.settings, most)

    @property
    def is_video(self) -> bool:
        """Whether the backbone encodes clips (VideoMAE), not single frames."""
        return bool(self.settings["model_type"] == "videomae")

    @property
    def takes_single_frames(self) -> bool:
        """Whether an image is a clip of one frame: in DINOv2."""
        return not self.is_video

    def frames_of(self, pixels_BCHW: Tensor) -> Tensor:
        """Encode normalised frames to tokens [B, N, D]; VideoMAE gets each frame repeated."""
        repeats = self.observation_spec.frames_per_token
        return self.tokens_of(pixels_BCHW.unsqueeze(2).expand(-1, -1, repeats, -1, -1))

    def tokens_of(self, clip_BCTHW: Tensor) -> Tensor:
        """Encode a normalised clip to tokens [B, N, D]; DINOv2 encodes each frame separately."""
        if self.is_video:
            return self.video_tokens(clip_BCTHW.transpose(1, 2))
        frames = clip_BCTHW.transpose(1, 2).flatten(0, 1)
        tokens: Tensor = self.backbone(frames).last_hidden_state[:, 1:]  # without the CLS token
        return tokens.reshape(len(clip_BCTHW), -1, tokens.shape[-1])

    def video_tokens(self, clip_BTCHW: Tensor, ids_K: Tensor | None = None) -> Tensor:
        """Run VideoMAE on a clip up to its own length, with the first positions of its table.

        Args:
            clip_BTCHW: Normalised clip.
            ids_K: Indices of the tokens that it sees; None shows all of them.

        Raises:
            ConfigError: The clip is longer than those of the training.
        """
        model: Any = self.backbone
        x: Tensor = model.embeddings.patch_embeddings(clip_BTCHW)
        table: Tensor = model.embeddings.position_embeddings
        if x.shape[1] > table.shape[1]:
            raise ConfigError(
                f"a clip of {clip_BTCHW.shape[1]} frames is too long for this VideoMAE, whose "
                f"position table has {table.shape[1]} tokens: use fewer frames"
            )
        x = x + table[:, : x.shape[1]].detach().to(x)
        x = x if ids_K is None else x[:, ids_K]
        tokens: Tensor = model.encoder(x).last_hidden_state
        return tokens if model.layernorm is None else model.layernorm(tokens)


def _settings(text: str) -> dict[str, Any]:
    """Parse a backbone's settings.

    Raises:
        ConfigError: The text is not a JSON object, or the architecture is not supported.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the backbone's settings are not JSON ({error})") from error
    if not is_backbone(found):
        kind = found.get("model_type") if isinstance(found, dict) else None
        raise ConfigError(f"backbone model_type={kind!r} is not supported: use {', '.join(KINDS)}")
    result: dict[str, Any] = found
    return result


def is_backbone(settings: object) -> bool:
    """Return whether settings, of any origin, are those of a supported backbone."""
    kind = settings.get("model_type") if isinstance(settings, dict) else None
    return isinstance(kind, str) and kind in KINDS


def architecture(settings: dict[str, Any]) -> Any:
    """Return the package's configuration of a supported `model_type`, with its architecture only.

    Raises:
        ConfigError: A setting is of a wrong type or out of range.
    """
    package = transformers_package()
    kind = getattr(package, KINDS[settings["model_type"]])
    stages = {"stage_names", "out_features", "out_indices"}  # follow from the number of layers
    known = kind().to_dict().keys() - package.PretrainedConfig().to_dict().keys() - stages
    chosen = {name: value for name, value in settings.items() if name in known}
    for name, value in chosen.items():
        most = MAX_LAYERS if name.endswith("num_hidden_layers") else MAX_SIZE
        numbers = [value] if isinstance(value, int) else value
        if isinstance(numbers, list) and not all(
            isinstance(number, int) and 0 <= number <= most for number in numbers
        ):
            raise ConfigError(f"the backbone's {name} is {str(value)[:100]}; allowed: 0 to {most}")
    try:
        return kind(**chosen)
    except Exception as error:  # the package checks types, with errors of its own kinds
        raise ConfigError(f"the backbone's settings cannot be used ({error})") from error


def require_weights(config: Any, most: int) -> None:
    """Check that a configuration describes at most `most` weights, before they take memory.

    Raises:
        ConfigError: It describes more, or no model.
    """
    with torch.device("meta"):
        count = sum(value.numel() for value in _model(config).parameters())
    if count > most:
        raise ConfigError(f"the backbone's settings describe {count} weights, and there are {most}")


def _model(config: Any) -> nn.Module:
    try:
        model: nn.Module = transformers_package().AutoModel.from_config(config)
    except Exception as error:  # the package meets odd sizes with errors of any kind
        raise ConfigError(f"the backbone's settings cannot be used ({error!r})") from error
    return model


def _build(settings: dict[str, Any], most: int | None) -> nn.Module:
    """Build a backbone with random weights."""
    config = architecture(settings)
    if most is not None:
        require_weights(config, most)
    return _model(config).eval()
