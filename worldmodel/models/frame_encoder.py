"""Frame encoders: a common interface from images of any size to tokens.

Shapes: B frames or clips, T frames of a clip, H W pixels, C channels, N tokens, D width.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.errors import ShapeError
from worldmodel.models.config import EncoderConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.memory_parts import MemoryParts
from worldmodel.models.model_config import FrameEncoderConfig
from worldmodel.models.precision import Float32Buffers
from worldmodel.models.preprocess import Preprocess
from worldmodel.specs import IMAGENET_MEAN, IMAGENET_STD, ObservationSpec, Transform


def normalise(tokens: Tensor) -> Tensor:
    """Apply LayerNorm without weights over the last axis, as for targets and predictions."""
    return F.layer_norm(tokens, tokens.shape[-1:])


def _check(frames: Tensor, axes: str, image_size: tuple[int, int] | None) -> Tensor:
    """Check uint8 RGB frames, channels last, for the named `axes` and a given size.

    Raises:
        ShapeError: The rank, channels, dtype or size are wrong.
    """
    frames = torch.as_tensor(frames)
    if frames.ndim != len(axes) or frames.shape[-1] != 3:
        raise ShapeError(
            f"frames have shape {tuple(frames.shape)}; use [{', '.join(axes[:-1])}, 3]: RGB, "
            "channels last, with a batch axis (frames[None])"
        )
    if frames.dtype != torch.uint8:
        raise ShapeError(
            f"frames are {frames.dtype}; use uint8 RGB in 0..255: for floats in 0..1 "
            "(frames * 255).round().astype('uint8'), for BGR frames[..., ::-1]"
        )
    if image_size is not None and tuple(frames.shape[-3:-1]) != tuple(image_size):
        raise ShapeError(
            f"frames are {tuple(frames.shape[-3:-1])} pixels; this model takes "
            f"{tuple(image_size)}: pass them through its preprocess() first"
        )
    return frames


class FrameEncoder(Float32Buffers, ABC):
    """Encodes images to tokens; base class for training, planning and perception.

    A subclass provides `backbone`, `tokens_of` and `frames_of`; this class handles the image
    transform, pixel statistics, checks and token normalisation.
    """

    backbone: nn.Module

    def __init__(self, config: FrameEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.in_parts = MemoryParts()
        for name in ("pixel_mean", "pixel_std"):
            value = torch.tensor(getattr(config.observation, name), dtype=torch.float32)
            self.register_buffer(name, value, persistent=False)
        self.pixel_mean: Tensor
        self.pixel_std: Tensor

    def set_observation(self, spec: ObservationSpec) -> Self:
        """Replace the observation spec, for example to match the training data.

        Returns:
            The same encoder.

        Raises:
            ConfigError: The spec does not match the backbone.
        """
        self.config = dataclasses.replace(self.config, observation=spec)
        for name in ("pixel_mean", "pixel_std"):
            buffer: Tensor = getattr(self, name)
            buffer.copy_(torch.tensor(getattr(spec, name)))
        return self

    @property
    def observation_spec(self) -> ObservationSpec:
        """Observation conventions: image size and transform, cameras, pixel statistics, state."""
        return self.config.observation

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of `encode`'s input images [px]."""
        return self.config.observation.image_size

    @property
    def embed_dim(self) -> int:
        """Width D of a token."""
        return self.config.encoder.embed_dim

    @property
    def token_grid(self) -> tuple[int, int]:
        """Token rows and columns of a frame; N is their product."""
        patch = self.config.encoder.patch_size
        return self.image_size[0] // patch, self.image_size[1] // patch

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the weights."""
        return next(self.backbone.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Device of the pixel statistics and of the weights."""
        return self.pixel_mean.device

    @abstractmethod
    def tokens_of(self, clip_BCTHW: Tensor) -> Tensor:
        """Encode a normalised clip to tokens [B, N, D] in the order tubelet, row, column."""

    @abstractmethod
    def frames_of(self, pixels_BCHW: Tensor) -> Tensor:
        """Encode normalised frames independently to tokens [B, N, D]."""

    @property
    def takes_single_frames(self) -> bool:
        """Whether an image is a clip of one frame, and need not be repeated to fill a clip."""
        return False

    def preprocess(self, frames_HWC: Tensor) -> Tensor:
        """Transform frames to the model's size as its observation spec requires.

        Args:
            frames_HWC: uint8 RGB of any size [..., H, W, 3], on a CPU.

        Returns:
            uint8 [..., *image_size, 3]; frames of that size are returned unchanged.

        Raises:
            ShapeError: The rank, channels or dtype are wrong, or the frame is too small for the
                transform.
        """
        spec = self.observation_spec
        return Preprocess(spec.transform, spec.image_size)(torch.as_tensor(frames_HWC))

    def pixels(
        self, frames_BHWC: Tensor, colour_B33: Tensor | None = None, gain_BHW: Tensor | None = None
    ) -> Tensor:
        """Normalise uint8 RGB [B, H, W, 3] to float [B, 3, H, W].

        For augmentation, `gain_BHW` multiplies the brightness of each pixel and `colour_B33` maps
        each frame's RGB, both before normalisation.
        """
        x = frames_BHWC.to(self.device)
        if gain_BHW is not None:
            x = x.float() * gain_BHW.unsqueeze(-1)
        if colour_B33 is None:
            # whole rows, in place: three channels at a time take several times as long on a CPU
            mean, std = (values.repeat(x.shape[2]) for values in (self.pixel_mean, self.pixel_std))
            x = (x / 255.0).flatten(2).sub_(mean).div_(std).view(x.shape)
        else:
            x = x.float()
            mixed = colour_B33.transpose(1, 2) / (255.0 * self.pixel_std)
            offset = (-self.pixel_mean / self.pixel_std).expand(len(x), 1, 3)
            x = torch.baddbmm(offset, x.flatten(1, 2), mixed).view(x.shape)
        return x.permute(0, 3, 1, 2)

    def encode_frames(
        self, frames_BHWC: Tensor, colour_B33: Tensor | None = None, gain_BHW: Tensor | None = None
    ) -> Tensor:
        """Run `encode` without checks and with gradients, for training.

        The tokens of an encoder in bfloat16 are normalised and returned in float32.
        """
        pixels_BCHW = self.pixels(frames_BHWC, colour_B33, gain_BHW).to(self.dtype)
        z_BND = self.frames_of(pixels_BCHW)
        if self.dtype != torch.float32:  # under autocast, weights are float32
            z_BND = z_BND.float()
        return normalise(z_BND) if self.config.normalise_tokens else z_BND

    @torch.no_grad()
    def encode(self, frames_BHWC: Tensor) -> Tensor:
        """Encode frames independently.

        Args:
            frames_BHWC: uint8 RGB in 0..255 at `image_size`; use `preprocess` for other sizes.

        Returns:
            Tokens [B, N, D] float32, normalised according to the config.

        Raises:
            ShapeError: The rank, channels, dtype or size are wrong.
        """
        frames = _check(frames_BHWC, "BHWC", self.image_size)
        return self.in_parts(lambda part: self.encode_frames(part).float(), frames, self.device)

    @torch.no_grad()
    def encode_clip(self, clip_BTHWC: Tensor) -> Tensor:
        """Encode clips to the features that probes use, without token normalisation.

        Args:
            clip_BTHWC: uint8 RGB in 0..255, with sides divisible by the patch size.

        Returns:
            Features [B, N, D] float32, tokens in the order tubelet, row, column.

        Raises:
            ShapeError: The rank, channels, dtype or size are wrong.
        """
        return self.in_parts(
            lambda part: self.tokens_of(self.clip_pixels(part).to(self.dtype)).float(),
            _check(clip_BTHWC, "BTHWC", None),
            self.device,
        )

    def clip_pixels(self, clip_BTHWC: Tensor) -> Tensor:
        """Normalise uint8 RGB clips to float [B, 3, T, H, W].

        Raises:
            ShapeError: Wrong rank, channels or dtype.
        """
        clip = _check(clip_BTHWC, "BTHWC", None).to(self.device)
        pixels = (clip.float() / 255.0 - self.pixel_mean) / self.pixel_std
        return pixels.permute(0, 4, 1, 2, 3)


def _frames(clip_BCTHW: Tensor) -> Tensor:
    """Return the frames of clips as clips of one frame, [B * T, C, 1, H, W]."""
    return clip_BCTHW.transpose(1, 2).flatten(0, 1).unsqueeze(2)


class VideoEncoder(FrameEncoder):
    """A V-JEPA vision transformer as a frame encoder and clip encoder.

    Source: V-JEPA 2 (arXiv 2506.09985), sec. 2.
    """

    backbone: VisionTransformer

    def __init__(
        self, config: FrameEncoderConfig, backbone: VisionTransformer | None = None
    ) -> None:
        super().__init__(config)
        assert isinstance(config.encoder, EncoderConfig)
        self.backbone = VisionTransformer(config.encoder) if backbone is None else backbone

    @classmethod
    def of(
        cls,
        backbone: VisionTransformer,
        *,
        transform: Transform = "published",
        frames_per_token: int | None = None,
        pixel_mean: tuple[float, float, float] = IMAGENET_MEAN,
        pixel_std: tuple[float, float, float] = IMAGENET_STD,
    ) -> VideoEncoder:
        """Wrap an initialised encoder, deriving the spec from its size and tubelets.

        Args:
            backbone: The encoder.
            transform: Transform from other image sizes to the encoder's.
            frames_per_token: Number of repetitions of a single frame; None fills one tubelet.
            pixel_mean: Mean of R, G and B.
            pixel_std: Standard deviation of R, G and B.
        """
        size, tubelet = backbone.config.image_size, backbone.config.tubelet_size
        spec = ObservationSpec(
            image_size=(size[0], size[1]),
            transform=transform,
            frames_per_token=frames_per_token or tubelet,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
        )
        return cls(FrameEncoderConfig(encoder=backbone.config, observation=spec), backbone).eval()

    @property
    def takes_single_frames(self) -> bool:
        """Whether an image is a clip of one frame: in I-JEPA, and in V-JEPA 2.1's image path."""
        return self._is_image or self.backbone.config.modality_embedding

    @property
    def _is_image(self) -> bool:
        return self.backbone.config.position == "sincos_2d"

    def tokens_of(self, clip_BCTHW: Tensor) -> Tensor:
        """Encode a normalised clip -> [B, N, D]; an image model (I-JEPA) takes frame by frame."""
        if self._is_image and clip_BCTHW.shape[2] > 1:
            tokens_FND = self.backbone(_frames(clip_BCTHW))
            return tokens_FND.unflatten(0, (len(clip_BCTHW), -1)).flatten(1, 2)
        tokens: Tensor = self.backbone(clip_BCTHW)
        return tokens

    @torch.no_grad()
    def encode_levels(self, clip_BTHWC: Tensor, blocks: Sequence[int]) -> Tensor:
        """Encode clips as `encode_clip` does, and read several blocks (see the backbone's).

        A level has the tokens of all frames, also of an image model (I-JEPA).
        """

        def levels(part: Tensor) -> Tensor:
            pixels = self.clip_pixels(part).to(self.dtype)
            if not self._is_image:
                return self.backbone.encode_levels(pixels, blocks).float()
            tokens = self.backbone.encode_levels(_frames(pixels), blocks).float()
            shape = (len(part), -1, len(blocks), tokens.shape[1] // len(blocks))  # B T levels N
            return tokens.view(*shape, tokens.shape[2]).transpose(1, 2).flatten(1, 3)

        return self.in_parts(levels, _check(clip_BTHWC, "BTHWC", None), self.device)

    def frames_of(self, pixels_BCHW: Tensor) -> Tensor:
        """Encode normalised frames to tokens [B, N, D]; each frame fills a tubelet."""
        clip_BCTHW = pixels_BCHW.unsqueeze(2)
        repeats = self.observation_spec.frames_per_token
        if repeats > 1:
            clip_BCTHW = clip_BCTHW.expand(-1, -1, repeats, -1, -1)
        return self.tokens_of(clip_BCTHW)
