"""Train a picture decoder on recorded frames and a finished world model.

Shapes: F frames, N tokens, D width, H W pixels.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.data.files import Links
from worldmodel.data.memory import MemoryClips, open_clips_for
from worldmodel.data.readers.options import CONTROL_HZ
from worldmodel.models.picture_decoder import (
    PictureDecoder,
    PictureDecoderConfig,
    encoder_key,
    shrink,
)
from worldmodel.models.world_model import WorldModel
from worldmodel.training.batches import to_device

CHUNK = 128
"""Frames that are encoded at once."""
RARE_LEVELS = 40
"""Difference from the mean picture above which a pixel counts as moving [grey levels]."""


@dataclasses.dataclass(frozen=True)
class DecoderData:
    """Frames and their tokens."""

    frames_FHW3: Tensor
    """uint8 frames at the decoder's size."""
    z_FND: Tensor
    """Their tokens."""


def open_frames(
    world: WorldModel,
    folder: str,
    cache: str = "",
    links: Links = "inside",
    rlds_fps: float = CONTROL_HZ,
) -> MemoryClips:
    """Open the single frames of the episodes of a folder as the model sees them."""
    main_view = dataclasses.replace(
        world.observation_spec, cameras=world.observation_spec.cameras[:1]
    )
    return open_clips_for(
        main_view, world.action_spec, folder, 1, links=links, rlds_fps=rlds_fps, cache=cache
    )


@torch.no_grad()
def decoder_data(
    world: WorldModel, clips: MemoryClips, count: int, size: int, *, seed: int = 0
) -> DecoderData:
    """Draw frames, encode them and shrink them.

    Args:
        world: The world model.
        clips: Episodes, see `open_frames`.
        count: Maximum number of frames.
        size: Side of the decoder's pictures [px].
        seed: Seed of the draw.
    """
    frames_FHW3 = clips.arrays["frames"]
    rng = np.random.default_rng(seed)
    count = min(count, len(frames_FHW3))
    chosen = np.sort(rng.choice(len(frames_FHW3), count, replace=False))
    device = next(world.parameters()).device
    small, tokens = [], []
    for start in range(0, count, CHUNK):
        part = torch.from_numpy(np.array(frames_FHW3[chosen[start : start + CHUNK]]))
        tokens.append(world.encode_main(part.to(device)).float().cpu())
        small.append(shrink(part, size))
    return DecoderData(torch.cat(small), torch.cat(tokens))


def fit_decoder(
    world: WorldModel,
    data: DecoderData,
    *,
    steps: int,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    minutes: float = 0.0,
    seed: int = 0,
    report: Callable[[float], None] | None = None,
) -> PictureDecoder:
    """Fit a decoder on the world model's device, and return it on the CPU.

    The learning rate falls to 0 over the steps or the minutes.

    Args:
        world: The world model, which stays as it is.
        data: Frames and tokens.
        steps: Maximum number of optimiser steps.
        batch_size: Frames of a step.
        learning_rate: Initial learning rate.
        minutes: Maximum duration [min]; 0 sets none.
        seed: Seed of the weights and the batches.
        report: Called with the loss after each step.
    """
    num_tokens, token_dim = data.z_FND.shape[1:]
    config = PictureDecoderConfig(
        token_dim=token_dim, num_tokens=num_tokens, image_size=data.frames_FHW3.shape[1]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = PictureDecoder(config)
    device = world.encoder.device
    decoder.mean_3HW.copy_(data.frames_FHW3.float().mean(0).permute(2, 0, 1) / 255)
    decoder.key_ND.copy_(encoder_key(world))
    decoder.to(device)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=learning_rate, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(seed)
    began = time.monotonic()
    for step in range(steps):
        done = step / steps
        if minutes:
            done = max(done, (time.monotonic() - began) / (60 * minutes))
        if done >= 1:
            break
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - done) * min(1.0, (step + 1) / 50)
        pick = torch.randint(len(data.z_FND), (batch_size,), generator=generator)
        batch = to_device({"z": data.z_FND[pick], "frames": data.frames_FHW3[pick]}, device)
        loss = decoder.loss(batch["z"], batch["frames"])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if report is not None:
            report(float(loss.detach()))
    return decoder.cpu().eval().requires_grad_(False)


@torch.no_grad()
def mean_error(decoder: PictureDecoder, data: DecoderData) -> dict[str, float]:
    """Return the mean absolute error [grey levels] of the decoder and of the mean picture.

    `moving` counts only the pixels that differ from the mean picture by more than `RARE_LEVELS`:
    arm, objects and unusual tables.
    """
    mean_HW3 = (decoder.mean_3HW * 255).permute(1, 2, 0)
    sums = torch.zeros(6, dtype=torch.float64)
    for start in range(0, len(data.z_FND), CHUNK):
        wanted = data.frames_FHW3[start : start + CHUNK].float()
        shown = decoder.decode(data.z_FND[start : start + CHUNK]).float()
        error_FHW, mean_FHW = (shown - wanted).abs().mean(-1), (mean_HW3 - wanted).abs().mean(-1)
        rare_FHW = mean_FHW > RARE_LEVELS
        counts = [torch.tensor(float(error_FHW.numel())), rare_FHW.sum().float()]
        errors = [error_FHW, mean_FHW, error_FHW * rare_FHW, mean_FHW * rare_FHW]
        sums += torch.stack([*(e.sum() for e in errors), *counts]).double()
    error, mean, moving, moving_mean, pixels, rare_pixels = sums.tolist()
    rare_pixels = max(1.0, rare_pixels)
    return {
        "error": error / pixels,
        "mean_picture_error": mean / pixels,
        "moving_error": moving / rare_pixels,
        "moving_mean_picture_error": moving_mean / rare_pixels,
    }


def examples(decoder: PictureDecoder, data: DecoderData, count: int = 12) -> NDArray[np.uint8]:
    """Return frames, spread evenly over the data, above their decoded pictures [2 H, W, 3]."""
    chosen = torch.linspace(0, len(data.z_FND) - 1, count).long()
    rows = (data.frames_FHW3[chosen], decoder.decode(data.z_FND[chosen]))
    return np.concatenate([np.concatenate(list(row.numpy()), axis=1) for row in rows])
