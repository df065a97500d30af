"""Train a picture decoder on recorded frames and a finished world model.

Shapes: F frames, B frames of a batch, N tokens, D width, H W pixels.
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
    planes,
    shrink,
    surroundings,
    without_brightness,
)
from worldmodel.models.precision import autocast
from worldmodel.models.world_model import WorldModel
from worldmodel.training.batches import to_device
from worldmodel.training.checkpointing import CheckpointStore

CHUNK = 128
"""Frames that are encoded at once."""
SAVE_EVERY = 500
"""Steps between checkpoints."""
RARE, DETAIL, COLOUR = 4.0, 15.0, 120.0
"""Weights in `pixel_weights`."""
RARE_LEVELS = 40
"""Difference from the mean picture above which a pixel counts as moving [grey levels]."""


@dataclasses.dataclass(frozen=True)
class DecoderData:
    """Frames and their tokens."""

    frames_FHW3: Tensor
    """uint8 frames at the decoder's size."""
    z_FND: Tensor
    """Their tokens."""
    sequence_F: Tensor
    """Number of the sequence of each frame, in rising order."""

    def references(self, index_B: Tensor, share_B: Tensor) -> Tensor:
        """Return the index of another frame of the same sequence, at `share_B` of it (0 to 1)."""
        first_B = torch.searchsorted(self.sequence_F, self.sequence_F[index_B])
        end_B = torch.searchsorted(self.sequence_F, self.sequence_F[index_B], right=True)
        return first_B + (share_B * (end_B - first_B)).long()


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
    sequence = np.searchsorted(clips.starts, chosen, side="right")
    return DecoderData(torch.cat(small), torch.cat(tokens), torch.from_numpy(sequence))


def pixel_weights(frames_BHW3: Tensor, mean_3HW: Tensor) -> Tensor:
    """Return the weights [B, H, W] of pixels in the loss, float16.

    Objects are few pixels and would count for little otherwise. Weights rise with the distance from
    the mean picture, with that from the surroundings, and most with that of the colour without the
    brightness from the surroundings, since arm and shadows are grey.
    """
    wanted_B3HW = planes(frames_BHW3)
    away_B3HW = wanted_B3HW - surroundings(wanted_B3HW)
    parts = (
        (RARE, wanted_B3HW - mean_3HW),
        (DETAIL, away_B3HW),
        (COLOUR, without_brightness(away_B3HW)),
    )
    weights_BHW = torch.ones(())
    for factor, x_B3HW in parts:
        weights_BHW = weights_BHW + factor * x_B3HW.abs().amax(1)
    return weights_BHW.half()


def fit_decoder(
    world: WorldModel,
    data: DecoderData,
    *,
    steps: int,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    minutes: float = 0.0,
    seed: int = 0,
    bf16: bool = False,
    store: CheckpointStore | None = None,
    report: Callable[[float], None] | None = None,
) -> PictureDecoder:
    """Fit a decoder on the world model's device, and return it on the CPU.

    The learning rate is constant over half of the steps or minutes, then falls to 0.

    Args:
        world: The world model, which stays as it is.
        data: Frames and tokens.
        steps: Maximum number of optimiser steps.
        batch_size: Frames of a step.
        learning_rate: Initial learning rate.
        minutes: Maximum duration [min]; 0 sets none.
        seed: Seed of the weights and the batches.
        bf16: Whether to compute under bfloat16 autocast.
        store: Checkpoints of the fit, which resumes from the newest one.
        report: Called with the loss after each step.
    """
    device = world.encoder.device
    decoder = _new_decoder(world, data, seed).to(device)
    # torch's types have no `to` with a memory format alone
    decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=learning_rate, weight_decay=1e-4)
    chunks = data.frames_FHW3.split(CHUNK)
    mean_3HW = decoder.mean_3HW.cpu()
    weights_FHW = torch.cat([pixel_weights(part, mean_3HW) for part in chunks])
    first = 0 if store is None else store.load(decoder, optimizer)
    began = time.monotonic()
    for step in range(first, steps):
        done = step / steps
        if minutes:
            done = max(done, (time.monotonic() - began) / (60 * minutes))
        if done >= 1:
            break
        warm = min(1.0, (step + 1) / 100)
        optimizer.param_groups[0]["lr"] = learning_rate * warm * min(1.0, 2 * (1 - done))
        batch = to_device(_batch(data, weights_FHW, mean_3HW, batch_size, [seed, step]), device)
        with autocast(device, bf16=bf16, weights=torch.float32):
            pictures_B3HW = decoder(batch["z"], batch["references"])
        error_BHW = (pictures_B3HW - planes(batch["frames"])).abs().mean(1)
        loss = (batch["weights"] * error_BHW).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if report is not None:
            report(float(loss.detach()))
        if store is not None and (step + 1) % SAVE_EVERY == 0:
            store.save(step + 1, decoder, optimizer)
    return decoder.cpu().eval().requires_grad_(False)


def _new_decoder(world: WorldModel, data: DecoderData, seed: int) -> PictureDecoder:
    num_tokens, token_dim = data.z_FND.shape[1:]
    config = PictureDecoderConfig(
        token_dim=token_dim, num_tokens=num_tokens, image_size=data.frames_FHW3.shape[1]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = PictureDecoder(config)
        decoder.whiten(data.z_FND)
    mean_HW3 = torch.stack([part.float().mean(0) for part in data.frames_FHW3.split(CHUNK)]).mean(0)
    decoder.mean_3HW.copy_(mean_HW3.permute(2, 0, 1) / 255)
    decoder.key_ND.copy_(encoder_key(world))
    return decoder


def _batch(
    data: DecoderData, weights_FHW: Tensor, mean_3HW: Tensor, batch_size: int, draw: list[int]
) -> dict[str, Tensor]:
    """Draw the batch of a step; it depends on `draw`, the seed and the step, alone.

    Half of the references are mirrored, so that places in them tell nothing, and a tenth are the
    mean picture, as where there is no reference.
    """
    rng = np.random.default_rng(draw)
    index_B = torch.from_numpy(rng.integers(len(data.z_FND), size=batch_size))
    other_B = data.references(index_B, torch.from_numpy(rng.random(batch_size)))
    references_B3HW = planes(data.frames_FHW3[other_B])
    references_B3HW[::2] = references_B3HW[::2].flip(-1)
    references_B3HW[1::10] = mean_3HW
    return {
        "z": data.z_FND[index_B],
        "frames": data.frames_FHW3[index_B],
        "references": references_B3HW,
        "weights": weights_FHW[index_B].float(),
    }


@torch.no_grad()
def mean_error(decoder: PictureDecoder, data: DecoderData) -> dict[str, float]:
    """Return the mean absolute error [grey levels] of the decoder and of the mean picture.

    `moving` counts only the pixels that differ from the mean picture by more than `RARE_LEVELS`:
    arm, objects and unusual tables. The reference is the first frame of each sequence.
    """
    mean_HW3 = (decoder.mean_3HW * 255).permute(1, 2, 0)
    sums = torch.zeros(6, dtype=torch.float64)
    for index in torch.arange(len(data.z_FND)).split(CHUNK):
        wanted = data.frames_FHW3[index].float()
        shown = decoded(decoder, data, index).float()
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
    rows = (data.frames_FHW3[chosen], decoded(decoder, data, chosen))
    return np.concatenate([np.concatenate(list(row.numpy()), axis=1) for row in rows])


def decoded(decoder: PictureDecoder, data: DecoderData, index_B: Tensor) -> Tensor:
    """Return the pictures [B, H, W, 3] of frames, with the first frame of each as reference."""
    first_B = data.references(index_B, torch.zeros(len(index_B)))
    return decoder.decode(data.z_FND[index_B], data.frames_FHW3[first_B])
