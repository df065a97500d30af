"""Backbones of the `transformers` package (DINOv2, VideoMAE) as frame encoders.

DINO-WM (arXiv 2411.04983) and JEPA-WMs (arXiv 2512.24497) plan on such frozen features. The package
is an extra (`pip install 'worldmodel[hf]'`) and is imported when a backbone is built. Code shipped
with the weights is never run, and only safetensors are read.

Shapes: B frames or clips, T frames of a clip, H W pixels, C channels, N tokens, D width.
"""

from __future__ import annotations

import json
from typing import Any

from torch import Tensor, nn

from worldmodel.errors import ConfigError
from worldmodel.models.config import TransformersConfig
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.model_config import FrameEncoderConfig

KINDS = ("dinov2", "videomae")
"""Supported values of `model_type`."""


def transformers_package() -> Any:
    """Import the transformers package.

    Raises:
        ConfigError: the package is not installed.
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

    def __init__(self, config: FrameEncoderConfig, backbone: nn.Module | None = None) -> None:
        super().__init__(config)
        assert isinstance(config.encoder, TransformersConfig)
        self.settings: dict[str, Any] = _settings(config.encoder.settings)
        self.backbone = backbone or _build(self.settings)

    @property
    def _is_video(self) -> bool:
        return bool(self.settings["model_type"] == "videomae")

    def frames_of(self, pixels_BCHW: Tensor) -> Tensor:
        """Encode normalised frames to tokens [B, N, D]; VideoMAE gets each frame repeated."""
        repeats = self.observation_spec.frames_per_token
        return self.tokens_of(pixels_BCHW.unsqueeze(2).expand(-1, -1, repeats, -1, -1))

    def tokens_of(self, clip_BCTHW: Tensor) -> Tensor:
        """Encode a normalised clip to tokens [B, N, D]; DINOv2 encodes each frame separately."""
        if self._is_video:
            return self._video_tokens(clip_BCTHW.transpose(1, 2))
        frames = clip_BCTHW.transpose(1, 2).flatten(0, 1)
        tokens: Tensor = self.backbone(frames).last_hidden_state[:, 1:]  # without the CLS token
        return tokens.reshape(len(clip_BCTHW), -1, tokens.shape[-1])

    def _video_tokens(self, clip_BTCHW: Tensor) -> Tensor:
        """Run VideoMAE on a clip up to its own length, with the first positions of its table."""
        model: Any = self.backbone
        x: Tensor = model.embeddings.patch_embeddings(clip_BTCHW)
        table: Tensor = model.embeddings.position_embeddings
        if x.shape[1] > table.shape[1]:
            raise ConfigError(
                f"a clip of {clip_BTCHW.shape[1]} frames is too long for this VideoMAE, whose "
                f"position table has {table.shape[1]} tokens: use fewer frames"
            )
        x = x + table[:, : x.shape[1]].detach().to(x)
        tokens: Tensor = model.encoder(x).last_hidden_state
        return tokens if model.layernorm is None else model.layernorm(tokens)


def _settings(text: str) -> dict[str, Any]:
    """Parse a backbone's settings.

    Raises:
        ConfigError: the text is not a JSON object, or the architecture is not supported.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the backbone's settings are not JSON ({error})") from error
    kind = found.get("model_type") if isinstance(found, dict) else None
    if kind not in KINDS:
        raise ConfigError(f"backbone model_type={kind!r} is not supported: use {', '.join(KINDS)}")
    result: dict[str, Any] = found
    return result


def _build(settings: dict[str, Any]) -> nn.Module:
    """Build a backbone with random weights."""
    package = transformers_package()
    rest = {k: v for k, v in settings.items() if k not in ("model_type", "transformers_version")}
    try:
        config = package.AutoConfig.for_model(settings["model_type"], **rest)
        model: nn.Module = package.AutoModel.from_config(config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"the backbone's settings cannot be used ({error})") from error
    return model.eval()
