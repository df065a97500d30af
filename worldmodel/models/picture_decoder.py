"""Picture decoder: show the tokens of a frame as a small picture.

It is trained after the world model, on the tokens of recorded frames, and is for people only: no
planner reads its pictures. The latent keeps what predicts well: where arm and objects are, and how
light they are. A model that was trained with random hues keeps no colour of an object, so the
decoder also sees a reference frame of the same scene, such as the camera's frame at the decision,
through a summary of its appearance without places. Tokens say where, the reference which colour.

Shapes: B frames, N tokens, D width, C channels, A width of the appearance, H W pixels.
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

FIRST_SIDE = 8
"""Smallest side of the first feature map."""
WIDE = 2
"""Number of first feature maps that have all channels."""


@dataclass(frozen=True, kw_only=True)
class PictureDecoderConfig(Checked):
    """Sizes of a picture decoder."""

    token_dim: int = field(default=256, metadata=between(1, 65536))
    """Width of the tokens it reads."""
    num_tokens: int = field(default=1, metadata=between(1, 4096))
    """Number of tokens of a frame: 1, or a square grid whose side is a power of 2."""
    image_size: int = field(default=64, metadata=between(16, 256, "px"))
    """Height and width of its pictures, a power of 2."""
    channels: int = field(default=48, metadata=between(8, 1024))
    """Channels of the first feature maps; later ones have fewer."""
    hidden_dim: int = field(default=320, metadata=between(8, 4096))
    """Width of the hidden layers that read the tokens."""
    appearance_dim: int = field(default=32, metadata=between(1, 1024))
    """Width of the summary of the reference frame."""

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

    @property
    def map_channels(self) -> list[int]:
        """Channels of the feature maps; each has twice the side of the one before."""
        count = (self.image_size // self.first_side).bit_length() - 1
        later = [max(16, self.channels * 2**k // 3**k) for k in range(1, count)]
        return [self.channels] * min(count, WIDE) + later[: max(0, count - WIDE)]


class _Block(nn.Module):
    """Upsample, convolve, apply the reference's scale and shift, and convolve again."""

    def __init__(self, channels_in: int, channels: int, appearance_dim: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.first = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.film = nn.Linear(appearance_dim, 2 * channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor, appearance_BA: Tensor) -> Tensor:
        if self.scale > 1:
            x_BCHW = F.interpolate(x_BCHW, scale_factor=self.scale)
        scale_BC11, shift_BC11 = self.film(appearance_BA)[..., None, None].chunk(2, 1)
        x_BCHW = F.gelu(self.first(x_BCHW)) * (1 + scale_BC11) + shift_BC11
        return F.gelu(self.second(x_BCHW))


class PictureDecoder(nn.Module):
    """Convolutional decoder from the tokens of a frame to an RGB picture."""

    mean_3HW: Tensor
    key_ND: Tensor

    def __init__(self, config: PictureDecoderConfig) -> None:
        """Build a decoder with random weights, whose first picture is the mean picture."""
        super().__init__()
        self.config = c = config
        self.grid = math.isqrt(c.num_tokens)
        self.stem = nn.Sequential(
            nn.Linear(c.token_dim, c.hidden_dim),
            nn.GELU(),
            nn.Linear(c.hidden_dim, c.hidden_dim),
            nn.GELU(),
            nn.Linear(c.hidden_dim, c.channels * (c.first_side**2 if self.grid == 1 else 1)),
        )
        self.look = nn.Sequential(*_strided(3, 16), *_strided(16, 32), *_strided(32, 48))
        self.appearance = nn.Linear(2 * 48 + 6, c.appearance_dim)
        blocks, before = [], c.channels
        for index, channels in enumerate(c.map_channels):
            blocks.append(_Block(before, channels, c.appearance_dim, 2 if index else 1))
            before = channels
        self.blocks = nn.ModuleList(blocks)
        self.last = nn.Conv2d(before, 12, 3, padding=1)
        for weight in self.last.parameters():
            nn.init.zeros_(weight)
        self.register_buffer("mean_3HW", torch.full((3, c.image_size, c.image_size), 0.5))
        self.register_buffer("key_ND", torch.zeros(c.num_tokens, c.token_dim))

    @torch.no_grad()
    def whiten(self, z_FND: Tensor) -> None:
        """Scale the first layer so that its inputs have about unit variance in every direction.

        Small objects move the tokens little, beside the light and the table.

        Args:
            z_FND: Tokens of training frames.
        """
        flat_FD = z_FND.flatten(0, 1).float()
        mean_D = flat_FD.mean(0)
        covariance_DD = (flat_FD - mean_D).T @ (flat_FD - mean_D) / len(flat_FD)
        values_D, axes_DD = torch.linalg.eigh(covariance_DD)
        first = self.stem[0]
        assert isinstance(first, nn.Linear)
        random_HD = torch.randn_like(first.weight) / len(values_D) ** 0.5
        weight_HD = random_HD / (values_D.clamp(min=0).sqrt() + 0.03) @ axes_DD.T
        first.weight.copy_(weight_HD)
        first.bias.copy_(-weight_HD @ mean_D)

    def forward(self, z_BND: Tensor, reference_B3HW: Tensor) -> Tensor:
        """Return pictures [B, 3, H, W] of the main view, 0 to 1 for colours in range.

        Args:
            z_BND: Tokens; those behind the main view's are ignored.
            reference_B3HW: Frames of the same scenes at the decoder's size, 0 to 1.
        """
        first = self.config.first_side
        x_BND = self.stem(z_BND[..., : self.config.num_tokens, :].to(self.last.weight.dtype))
        if self.grid == 1:
            x_BCHW = x_BND.unflatten(-1, (self.config.channels, first, first))[:, 0]
        else:
            x_BCHW = x_BND.transpose(1, 2).unflatten(-1, (self.grid, self.grid))
            x_BCHW = F.interpolate(x_BCHW, scale_factor=first // self.grid)
        look_BCHW = self.look(reference_B3HW - self.mean_3HW)
        pooled = (look_BCHW.mean((2, 3)), look_BCHW.amax((2, 3)), salient_colour(reference_B3HW))
        appearance_BA = self.appearance(torch.cat(pooled, 1))
        for block in self.blocks:
            x_BCHW = block(x_BCHW, appearance_BA)
        out_B3HW: Tensor = F.pixel_shuffle(self.last(x_BCHW).float(), 2) + self.mean_3HW
        return out_B3HW

    @torch.no_grad()
    def decode(self, z_BND: Tensor, reference_BHW3: Tensor | None = None) -> Tensor:
        """Return uint8 RGB pictures [B, H, W, 3].

        Args:
            z_BND: Tokens, as for `forward`.
            reference_BHW3: uint8 frames of the same scenes at any size, as the model sees them;
                one frame serves all pictures. Without it, colours of objects are guesses.
        """
        reference_B3HW = self.mean_3HW[None]
        if reference_BHW3 is not None:
            small_BHW3 = shrink(reference_BHW3, self.config.image_size)
            reference_B3HW = planes(small_BHW3.to(self.mean_3HW.device))
        pictures_B3HW = self(z_BND, reference_B3HW.expand(len(z_BND), -1, -1, -1))
        pixels_B3HW = (pictures_B3HW.clamp(0, 1) * 255).round()
        return pixels_B3HW.to(torch.uint8).permute(0, 2, 3, 1)

    def picture(self, z_ND: Tensor, reference_HW3: Tensor | None = None) -> NDArray[np.uint8]:
        """Return the picture [H, W, 3] of one frame; see `decode`."""
        reference_1HW3 = None if reference_HW3 is None else reference_HW3[None]
        pictures_1HW3 = self.decode(z_ND[None], reference_1HW3)
        return np.asarray(pictures_1HW3[0].cpu().numpy(), dtype=np.uint8)

    def fits(self, key_ND: Tensor) -> bool:
        """Return whether a model whose key is `key_ND` has the encoder it was trained on."""
        if key_ND.shape != self.key_ND.shape:
            return False
        return bool((key_ND - self.key_ND).abs().mean() < 0.02 * self.key_ND.abs().mean())


def _strided(channels_in: int, channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels_in, channels, 3, stride=2, padding=1), nn.GELU()


def planes(frames_BHW3: Tensor) -> Tensor:
    """Return uint8 frames as float32 planes [B, 3, H, W], 0 to 1."""
    return frames_BHW3.permute(0, 3, 1, 2).float() / 255


def surroundings(x_B3HW: Tensor) -> Tensor:
    """Return the mean of the square around each pixel, a fifth of the picture wide."""
    side = x_B3HW.shape[-1] // 10
    padded = F.pad(x_B3HW, (side,) * 4, mode="replicate")
    rows = F.avg_pool2d(padded, (2 * side + 1, 1), stride=1)
    return F.avg_pool2d(rows, (1, 2 * side + 1), stride=1)


def without_brightness(x_B3HW: Tensor) -> Tensor:
    """Return the colours less their mean over the channels: 0 for grey."""
    return x_B3HW - x_B3HW.mean(1, keepdim=True)


def salient_colour(frames_B3HW: Tensor) -> Tensor:
    """Return the mean colour of what stands out by its colour: on a table, its objects.

    Returns:
        The difference from the surroundings and the colour itself [B, 6].
    """
    around_B3HW = surroundings(frames_B3HW)
    away_B3HW = frames_B3HW - around_B3HW
    salience_B1HW = without_brightness(away_B3HW).square().sum(1, keepdim=True).square()
    total_B1 = salience_B1HW.sum((2, 3)) + 1e-6
    values = (away_B3HW, frames_B3HW)
    return torch.cat([(salience_B1HW * x).sum((2, 3)) / total_B1 for x in values], 1)


def shrink(frames_BHW3: Tensor, size: int) -> Tensor:
    """Return uint8 frames scaled to `size` x `size` by averaging areas."""
    planes_B3HW = frames_BHW3.permute(0, 3, 1, 2).float()
    small_B3HW = F.adaptive_avg_pool2d(planes_B3HW, size)
    return small_B3HW.round().to(torch.uint8).permute(0, 2, 3, 1)


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
