"""Prepare the rollout table of a model: clips with true poses, and an object head.

Shapes: C clips, T frames, F frames of a sample, N tokens, D width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from worldmodel.data.memory import MemoryClips
from worldmodel.errors import DataError
from worldmodel.evaluation.rollout_table import RolloutClips
from worldmodel.models.config import ObjectHeadConfig
from worldmodel.models.object_head import ObjectHead
from worldmodel.models.world_model import WorldModel

BATCH = 256
"""Frames that are encoded at once, and frames of a step of fitting a head."""


@torch.no_grad()
def encode_all(world: WorldModel, frames_FHWC: np.ndarray) -> Tensor:
    """Encode frames to tokens [F, N, D] on the CPU."""
    parts = [
        world.encode(torch.from_numpy(np.array(frames_FHWC[start : start + BATCH]))).cpu()
        for start in range(0, len(frames_FHWC), BATCH)
    ]
    return torch.cat(parts)


def rollout_clips(
    world: WorldModel, clips: MemoryClips, count: int, *, seed: int = 0
) -> RolloutClips:
    """Draw clips, encode them and look up the simulator's poses.

    Raises:
        DataError: The episodes hold no pose of an object.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(clips), size=min(count, len(clips)), replace=False)
    batch, steps_CT = clips.batch(chosen), clips.steps(chosen)
    poses_CTM4 = clips.arrays["poses"][steps_CT].copy()
    unknown_CT = np.isnan(poses_CTM4[..., 0]).all(-1)
    poses_CTM4[unknown_CT, 0, :3] = batch["objects"][unknown_CT]  # older episodes have no yaw
    if np.isnan(poses_CTM4[:, :, 0, 0]).any():
        raise DataError(
            "Some episodes hold no object position, which the rollout table needs: use episodes of "
            "`worldmodel collect`, or set rollout_clips=0"
        )
    z_FND = encode_all(world, batch["frames"].reshape(-1, *batch["frames"].shape[2:]))
    return RolloutClips(
        z_CTND=z_FND.unflatten(0, steps_CT.shape),
        states_CTS=torch.from_numpy(batch["states"]),
        actions_CKA=torch.from_numpy(batch["actions"]),
        poses_CTM4=torch.from_numpy(poses_CTM4),
    )


def fit_object_head(
    world: WorldModel, clips: MemoryClips, count: int, *, steps: int = 1500, seed: int = 0
) -> ObjectHead:
    """Fit an object head to a model that has none, on hindsight labels of training frames.

    Args:
        world: Model, whose tokens stay as they are.
        clips: Training clips with hindsight labels.
        count: Maximum number of labelled frames.
        steps: Optimiser steps.
        seed: Seed of the sample and of the head.

    Raises:
        DataError: No frame has a label.
    """
    labels_F4 = clips.arrays["labels"][:, 0]
    known = np.flatnonzero(np.isfinite(labels_F4[:, 0]))
    if not len(known):
        raise DataError("No frame has a hindsight label: the fingers hold nothing in any episode")
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(known, size=min(count, len(known)), replace=False))
    z_FND = encode_all(world, clips.arrays["frames"][chosen])
    y_F4 = torch.from_numpy(labels_F4[chosen])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = ObjectHead(ObjectHeadConfig(num_tokens=z_FND.shape[1], token_dim=z_FND.shape[2]))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - step / steps)
        pick = torch.randint(len(z_FND), (BATCH,), generator=generator)
        loss = head.loss(z_FND[pick], y_F4[pick].unsqueeze(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head.eval().requires_grad_(False)
