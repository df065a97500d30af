"""Picture decoder: show the tokens of a frame as a small picture.

It is trained after the world model, on the tokens of recorded frames, and is for people only: no
planner reads its pictures. The latent keeps what predicts well, so that details it does not need,
such as table textures, come out blurred.

Shapes: B frames, N tokens, D width, H W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError
from worldmodel.models.world_model import WorldModel

FIRST_SIDE = 4
"""Smallest side of the first feature map."""
RARE = 12.0
"""Additional weight of a pixel that differs from the mean picture by the full range; objects are a
small part of a frame, and would count for little otherwise."""


@dataclass(frozen=True, kw_only=True)
class PictureDecoderConfig(Checked):
    """Sizes of a picture decoder."""

    token_dim: int = field(default=256, metadata=between(1, 65536))
    """Width of the tokens it reads."""
    num_tokens: int = field(default=1, metadata=between(1, 4096))
    """Number of tokens of a frame: 1, or a square grid whose side is a power of 2."""
    image_size: int = field(default=64, metadata=between(16, 256, "px"))
    """Height and width of its pictures, a power of 2."""
    channels: int = field(default=96, metadata=between(8, 1024))
    """Channels of the first feature map; later ones have fewer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        side = math.isqrt(self.num_tokens)
        if side * side != self.num_tokens or side & (side - 1) or 2 * side > self.image_size:
            raise ConfigError(
                f"num_tokens={self.num_tokens}; allowed: 1, 4, 16, 64, ... with at most half the "
                f"picture's side ({self.image_size} px) in a row"
            )
        if self.image_size & (self.image_size - 1):
            raise ConfigError(f"image_size={self.image_size}; allowed: 16, 32, 64, 128, 256")

    @property
    def first_side(self) -> int:
        """Side of the first feature map."""
        return max(FIRST_SIDE, math.isqrt(self.num_tokens))


class PictureDecoder(nn.Module):
    """Convolutional decoder from the tokens of a frame to an RGB picture."""

    mean_3HW: Tensor
    key_ND: Tensor

    def __init__(self, config: PictureDecoderConfig) -> None:
        """Build a decoder with random weights, whose first picture is the mean picture."""
        super().__init__()
        self.config = c = config
        grid, first = math.isqrt(c.num_tokens), c.first_side
        self.repeat = first // grid if grid > 1 else 1
        self.stem = nn.Linear(c.token_dim, c.channels * (first * first if grid == 1 else 1))
        layers: list[nn.Module] = []
        channels, side = c.channels, first
        while 2 * side < c.image_size:
            fewer = max(16, channels * 2 // 3)
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(channels, fewer, 3, padding=1)]
            layers += [nn.GELU()]
            channels, side = fewer, 2 * side
        last = nn.Conv2d(channels, 12, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.net = nn.Sequential(*layers, last, nn.PixelShuffle(2))
        self.register_buffer("mean_3HW", torch.full((3, c.image_size, c.image_size), 0.5))
        self.register_buffer("key_ND", torch.zeros(c.num_tokens, c.token_dim))

    def forward(self, z_BND: Tensor) -> Tensor:
        """Return pictures [B, 3, H, W] of the main view, 0 to 1 for colours in range.

        Tokens behind those of the main view are ignored.
        """
        z_BND = z_BND[..., : self.config.num_tokens, :]
        grid, first = math.isqrt(self.config.num_tokens), self.config.first_side
        x_BND = self.stem(z_BND.to(self.stem.weight.dtype))
        if grid == 1:
            x_BCHW = x_BND.unflatten(-1, (self.config.channels, first, first))[:, 0]
        else:
            x_BCHW = x_BND.transpose(1, 2).unflatten(-1, (grid, grid))
            x_BCHW = x_BCHW.repeat_interleave(self.repeat, 2).repeat_interleave(self.repeat, 3)
        out_B3HW: Tensor = self.net(x_BCHW) + self.mean_3HW
        return out_B3HW

    def loss(self, z_BND: Tensor, frames_BHW3: Tensor) -> Tensor:
        """Return the weighted mean absolute error for uint8 frames [B, H, W, 3] of its size."""
        wanted_B3HW = frames_BHW3.permute(0, 3, 1, 2).float() / 255
        rare_BHW = (wanted_B3HW - self.mean_3HW).abs().amax(1)
        error_BHW = (self(z_BND) - wanted_B3HW).abs().mean(1)
        return ((1 + RARE * rare_BHW) * error_BHW).mean()

    @torch.no_grad()
    def decode(self, z_BND: Tensor) -> Tensor:
        """Return uint8 RGB pictures [B, H, W, 3]."""
        pixels_B3HW = (self(z_BND).clamp(0, 1) * 255).round()
        return pixels_B3HW.to(torch.uint8).permute(0, 2, 3, 1)

    def picture(self, z_ND: Tensor) -> NDArray[np.uint8]:
        """Return the picture [H, W, 3] of one frame."""
        return np.asarray(self.decode(z_ND[None])[0].cpu().numpy(), dtype=np.uint8)

    def fits(self, key_ND: Tensor) -> bool:
        """Return whether a model whose key is `key_ND` has the encoder it was trained on."""
        if key_ND.shape != self.key_ND.shape:
            return False
        return bool((key_ND - self.key_ND).abs().mean() < 0.02 * self.key_ND.abs().mean())


def shrink(frames_BHW3: Tensor, size: int) -> Tensor:
    """Return uint8 frames scaled to `size` x `size` by averaging areas."""
    planes = frames_BHW3.permute(0, 3, 1, 2).float()
    return F.adaptive_avg_pool2d(planes, size).round().to(torch.uint8).permute(0, 2, 3, 1)


@torch.no_grad()
def encoder_key(world: WorldModel) -> Tensor:
    """Return the tokens [N, D] of a fixed test picture, which tell one encoder from another.

    Weights may differ in layout and precision between devices; tokens hardly do.
    """
    height, width = world.image_size
    rows = torch.linspace(0, 255, height)[:, None].expand(height, width)
    columns = torch.linspace(0, 255, width).expand(height, width)
    waves = 127.5 + 127.5 * torch.sin(rows / 9) * torch.cos(columns / 13)
    frame = torch.stack([rows, columns, waves], -1).to(torch.uint8)
    device = next(world.parameters()).device
    key_ND: Tensor = world.encode_main(frame[None].to(device))[0].float().cpu()
    return key_ND
