"""Random colours and patterns for training clips, the same for all frames of a clip.

Shapes: B clips, H W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodel.training.batches import sent

CPU = torch.device("cpu")
CELLS = 12
"""Maximum number of pattern cells along an image axis."""


def random_colours(batch: int, spread: float, hue_deg: float) -> Tensor:
    """Return random colour matrices [B, 3, 3]: a rotation about the grey axis, then gains."""
    angle = torch.deg2rad(hue_deg * (2 * torch.rand(batch) - 1))
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    axis = torch.full((3, 3), 1 / 3)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / 3**0.5
    turn = cosine * torch.eye(3) + sine * cross + (1 - cosine) * axis
    gain = (1 + spread * torch.randn(batch, 1)) * (1 + spread * torch.randn(batch, 3))
    return gain[:, :, None] * turn


def random_patterns(
    batch: int, spread: float, height: int, width: int, device: torch.device = CPU
) -> Tensor:
    """Return brightness factors [B, H, W] of stripes, patches or soft spots, one pattern per clip.

    A pattern stays still while the arm moves, so an encoder learns that patterns carry no
    information about the scene. It is a grid of 1 to `CELLS` cells per axis, rotated by a random
    angle, with cell brightness within `spread` of 1; half of the patterns are sharp, half are
    blurred. The random numbers are those of the CPU's generator; the pixels are computed on
    `device`.
    """
    noise = torch.randn(batch, 1, CELLS, CELLS).clamp(-1, 1)
    two_tone = torch.rand(batch, 1, 1, 1) < 0.5
    noise = torch.where(two_tone, noise.sign(), noise)
    turn, shift = torch.pi * torch.rand(batch), 2 * torch.rand(batch, 2) - 1
    cells = (CELLS ** torch.rand(batch, 2)) / CELLS
    cells[torch.arange(batch), torch.randint(2, (batch,))] *= (torch.rand(batch) < 0.7).float()
    cosine, sine = turn.cos(), turn.sin()
    rows = [
        torch.stack([cells[:, 0] * cosine, -cells[:, 0] * sine, shift[:, 0]], dim=1),
        torch.stack([cells[:, 1] * sine, cells[:, 1] * cosine, shift[:, 1]], dim=1),
    ]
    is_sharp, amount = (torch.rand(batch) < 0.5).float(), spread * torch.rand(batch)
    # one copy to the device
    parts = [noise.flatten(1), torch.stack(rows, dim=1).flatten(1), is_sharp[:, None]]
    packed = sent(torch.cat([*parts, amount[:, None]], dim=1), device)
    noise, theta, is_sharp, amount = packed.split([CELLS**2, 6, 1, 1], dim=1)
    grid_BHW2 = F.affine_grid(theta.reshape(-1, 2, 3), [batch, 1, height, width], False)
    noise_B1CC = noise.reshape(-1, 1, CELLS, CELLS)
    sharp, soft = (
        F.grid_sample(noise_B1CC, grid_BHW2, mode, "reflection", align_corners=False)[:, 0]
        for mode in ("nearest", "bilinear")
    )
    pattern = torch.where(is_sharp[:, :, None] > 0, sharp, soft)
    return 1 + amount[:, :, None] * pattern
