"""Vision transformer: V-JEPA 1, 2, 2.1, I-JEPA and the small model with a convolutional stem.

Shapes: B clips, C channels, T frames, H W pixels, N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.errors import ConfigError, ShapeError
from worldmodel.models.config import EncoderConfig
from worldmodel.models.layers import Block, LayerNorm, initialise, rescale_blocks
from worldmodel.models.positions import position_table, positions_at
from worldmodel.models.rope import Tables, grid_positions, rope_tables

PRESETS: dict[str, tuple[int, int, int, float]] = {
    "vit_tiny": (192, 12, 3, 4.0),
    "vit_small": (384, 12, 6, 4.0),
    "vit_base": (768, 12, 12, 4.0),
    "vit_large": (1024, 24, 16, 4.0),
    "vit_huge": (1280, 32, 16, 4.0),
    "vit_giant": (1408, 40, 22, 48 / 11),
    "vit_gigantic": (1664, 48, 26, 64 / 13),
}
"""Name -> width, number of blocks, number of heads, MLP ratio."""


def preset(name: str, **changes: object) -> EncoderConfig:
    """Return the config of a published size; `changes` override its fields.

    Raises:
        ConfigError: The name is unknown.
    """
    if name not in PRESETS:
        raise ConfigError(f"encoder size {name!r} is unknown; use {', '.join(PRESETS)}")
    dim, depth, heads, ratio = PRESETS[name]
    sizes = {"embed_dim": dim, "depth": depth, "num_heads": heads, "mlp_ratio": ratio}
    return EncoderConfig(**(sizes | changes))  # type: ignore[arg-type]  # checked by it


class PatchEmbed(nn.Module):
    """Embeds tubelets as tokens by one strided 3-D convolution.

    Under autocast on a CPU it is one matrix product, which is faster, above all for gradients.
    """

    def __init__(self, dim: int, patch_size: int, tubelet_size: int) -> None:
        super().__init__()
        self.size = (tubelet_size, patch_size, patch_size)
        self.proj = nn.Conv3d(3, dim, kernel_size=self.size, stride=self.size)

    def forward(self, clip_BCTHW: Tensor) -> Tensor:
        """Embed a clip as tokens [B, N, D]."""
        if clip_BCTHW.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            return F.linear(self.pixels(clip_BCTHW), self.proj.weight.flatten(1), self.proj.bias)
        out: Tensor = self.proj(clip_BCTHW).flatten(2).transpose(1, 2)
        return out

    def pixels(self, clip_BCTHW: Tensor) -> Tensor:
        """Return the values of each token's pixels [B, N, 3 * tubelet * patch * patch]."""
        time, height, width = self.size
        tubes = clip_BCTHW.unfold(2, time, time).unfold(3, height, height).unfold(4, width, width)
        return tubes.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4).flatten(1, 3)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map [B, C, H, W] stored channels-last."""

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        """Normalise each pixel over its channels."""
        return super().forward(maps_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvStem(nn.Module):
    """Stride-2 3x3 convolutions and a patch projection, applied to each frame separately.

    It uses ChannelNorm because GroupNorm took half of a training step on a CPU.
    """

    def __init__(self, dim: int, patch_size: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in channels:
            layers += [
                nn.Conv2d(before, width, 3, stride=2, padding=1),
                ChannelNorm(width),
                nn.GELU(),
            ]
            before = width
        self.stem = nn.Sequential(*layers)
        left = patch_size // 2 ** len(channels)
        self.proj = nn.Conv2d(before, dim, left, stride=left)

    def forward(self, clip_BCTHW: Tensor) -> Tensor:
        """Embed a clip as tokens [B, N, D]."""
        batch = clip_BCTHW.shape[0]
        frames = (
            clip_BCTHW.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        )
        maps = self.proj(self.stem(frames))
        out: Tensor = maps.flatten(2).transpose(1, 2).reshape(batch, -1, maps.shape[1])
        return out


class VisionTransformer(nn.Module):
    """V-JEPA encoder; the state dict has the published keys."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = c = config
        if c.stem == "conv":
            self.patch_embed: nn.Module = ConvStem(c.embed_dim, c.patch_size, c.stem_channels)
        else:
            self.patch_embed = PatchEmbed(c.embed_dim, c.patch_size, c.tubelet_size)
        hidden = int(c.embed_dim * c.mlp_ratio)
        self.blocks = nn.ModuleList(
            Block(c.embed_dim, c.num_heads, hidden, c.norm_eps) for _ in range(c.depth)
        )
        if c.modality_embedding:
            self.img_mod_embed = nn.Parameter(torch.zeros(1, 1, c.embed_dim))
            self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, c.embed_dim))
            self.patch_embed_img = PatchEmbed(c.embed_dim, c.patch_size, 1)
        if c.norm_blocks:
            self.norms_block = nn.ModuleList(
                LayerNorm(c.embed_dim, eps=c.norm_eps) for _ in c.norm_blocks
            )
        else:
            self.norm = LayerNorm(c.embed_dim, eps=c.norm_eps, elementwise_affine=c.affine_norm)
        if c.position != "rope":
            table = position_table(self._trained_grid(), c.embed_dim, image=self._is_image)
            self.pos_embed = nn.Parameter(table, requires_grad=False)
        initialise(self)
        rescale_blocks(self.blocks)
        self._tables: dict[tuple[int, int, int, str], Tables] = {}

    def _grid(self, clip_BCTHW: Tensor, tubelet: int) -> tuple[int, int, int]:
        c = self.config
        if clip_BCTHW.ndim != 5 or clip_BCTHW.shape[1] != 3:
            raise ShapeError(
                f"clip has shape {tuple(clip_BCTHW.shape)}; use [B, 3, T, H, W]: "
                "channels come before frames"
            )
        time, height, width = clip_BCTHW.shape[2:]
        if time % tubelet or height % c.patch_size or width % c.patch_size:
            raise ShapeError(
                f"clip of {time} frames, {height} x {width} px: the number of frames must be a "
                f"multiple of {tubelet}, the sides of {c.patch_size}: crop or resize it"
            )
        return time // tubelet, height // c.patch_size, width // c.patch_size

    def _rope(self, grid: tuple[int, int, int], device: torch.device) -> Tables:
        key = (*grid, str(device))
        if key not in self._tables:
            c = self.config
            positions = grid_positions(*grid, interpolate=c.interpolate_rope).to(device)
            self._tables[key] = rope_tables(positions, c.embed_dim // c.num_heads, c.rope)
        return self._tables[key]

    @property
    def _is_image(self) -> bool:
        """Whether the model takes one image, not a clip (I-JEPA)."""
        return self.config.position == "sincos_2d"

    def _trained_grid(self) -> tuple[int, int, int]:
        c = self.config
        rows, columns = (size // c.patch_size for size in c.image_size)
        return 1 if self._is_image else c.num_frames // c.tubelet_size, rows, columns

    def _positions(self, grid: tuple[int, int, int]) -> Tensor:
        if self._is_image and grid[0] != 1:
            raise ShapeError(
                f"clip of {grid[0]} frames: an image model takes one; put frames into the batch"
            )
        return positions_at(self.pos_embed, self._trained_grid(), grid, image=self._is_image)

    def embed(self, clip_BCTHW: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        """Return patch tokens [B, N, D] with modality and position embedding, and their grid."""
        c = self.config
        is_image = c.modality_embedding and clip_BCTHW.shape[2] == 1
        grid = self._grid(clip_BCTHW, 1 if is_image else c.tubelet_size)
        x: Tensor = (self.patch_embed_img if is_image else self.patch_embed)(clip_BCTHW)
        if c.modality_embedding:
            x = x + (self.img_mod_embed if is_image else self.video_mod_embed)
        if c.position != "rope":
            x = x + self._positions(grid).to(self.pos_embed.dtype)
        return x, grid

    def forward(
        self, clip_BCTHW: Tensor, token_ids: Tensor | None = None, *, all_levels: bool = False
    ) -> Tensor:
        """Encode a normalised clip.

        Args:
            clip_BCTHW: float clip; in V-JEPA 2.1, a single frame uses the image path.
            token_ids: Long [B, K]; only these tokens pass through the blocks.
            all_levels: Whether to concatenate the four levels of V-JEPA 2.1 along the channels
                (dense tasks, pretraining).

        Returns:
            Tokens [B, N or K, D].

        Raises:
            ShapeError: The clip is not divisible by the patch or tubelet size.
        """
        x, rope = self._start(clip_BCTHW)
        if token_ids is not None:
            x = x.gather(1, token_ids[..., None].expand(-1, -1, x.shape[-1]))
            if rope is not None:
                rope = (rope[0][token_ids].unsqueeze(1), rope[1][token_ids].unsqueeze(1))
        levels = []
        for i, block in enumerate(self.blocks):
            x, _ = block(x, rope)
            if i in self.config.norm_blocks:
                levels.append(self.norms_block[self.config.norm_blocks.index(i)](x))
        if not self.config.norm_blocks:
            out: Tensor = self.norm(x)
            return out
        return torch.cat(levels, dim=-1) if all_levels else levels[-1]

    def _start(self, clip_BCTHW: Tensor) -> tuple[Tensor, Tables | None]:
        x, grid = self.embed(clip_BCTHW)
        return x, self._rope(grid, x.device) if self.config.position == "rope" else None

    def encode_levels(self, clip_BCTHW: Tensor, blocks: Sequence[int]) -> Tensor:
        """Encode a normalised clip and read the tokens after several blocks.

        Args:
            clip_BCTHW: float clip.
            blocks: Numbers of the blocks, from 0; each output goes through the final norm, in
                V-JEPA 2.1 through the norm of its level.

        Returns:
            The levels, concatenated along the tokens: [B, levels * N, D].

        Raises:
            ConfigError: The block does not exist or has no norm.
            ShapeError: The clip is not divisible by the patch or tubelet size.
        """
        known = self.config.norm_blocks or tuple(range(self.config.depth))
        if not blocks or not set(blocks) <= set(known):
            raise ConfigError(f"blocks={tuple(blocks)} cannot be read; use some of {known}")
        x, rope = self._start(clip_BCTHW)
        levels: dict[int, Tensor] = {}
        for i, block in enumerate(self.blocks[: max(blocks) + 1]):
            x, _ = block(x, rope)
            if i in blocks:
                norms = self.config.norm_blocks
                levels[i] = (self.norms_block[norms.index(i)] if norms else self.norm)(x)
        return torch.cat([levels[i] for i in blocks], dim=1)
