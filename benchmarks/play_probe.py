"""Read positions and motion from frozen features of whole clips of play: part of play_pretraining.

Shapes: B clips, T frames, N tokens, D width, Q quantities.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.checkpoints.loading import load_encoder
from worldmodel.data.memory import MemoryClips
from worldmodel.evaluation.feature_health import effective_rank
from worldmodel.evaluation.shape_probe import SCALINGS, ProbeFit, principal_components, scaled
from worldmodel.models.config import ProbeConfig
from worldmodel.models.frame_encoder import VideoEncoder, normalise
from worldmodel.models.probe import AttentivePooler
from worldmodel.training.shape_objectives import patch_pixels

QUANTITIES = ("object", "tip", "object_motion", "tip_motion")
"""Object and finger tip in the last frame, and how far each moved since the first frame [m]."""
MOVED_M = 0.01
"""Motion of the object from which a clip counts in `object_motion` [m]."""
BETA = 0.1
"""Error where the smooth L1 loss of standardised quantities turns linear."""
SEEDS = {"train": 1, "unseen": 2}
READ = 128
Clips = dict[str, np.ndarray]


class PlayProbe(nn.Module):
    """One query per quantity attends to all tokens; a linear layer reads each query."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        count = len(QUANTITIES)
        sizes = ProbeConfig(embed_dim=embed_dim, num_heads=num_heads, depth=1, num_queries=count)
        self.pooler = AttentivePooler(sizes)
        self.heads = nn.ModuleList(nn.Linear(embed_dim, 3) for _ in QUANTITIES)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Return standardised quantities [B, Q, 3]."""
        pooled_BQD = self.pooler(tokens_BND)
        return torch.stack([head(pooled_BQD[:, i]) for i, head in enumerate(self.heads)], 1)


def quantities(clips: Clips) -> Tensor:
    """Return the quantities [B, Q, 3] of clips [m]."""
    places = [torch.from_numpy(clips[k])[..., :3].float() for k in ("objects", "states")]
    return torch.stack([p[:, -1] for p in places] + [p[:, -1] - p[:, 0] for p in places], 1)


def choose(source: MemoryClips, count: int, part: str) -> Clips:
    """Return clips drawn at random, the same ones at every call."""
    picked = np.random.default_rng(SEEDS[part]).permutation(len(source))[:count]
    return source.batch(np.sort(picked))


def fit(tokens_BND: Tensor, truth_BQ3: Tensor, num_heads: int, options: ProbeFit) -> PlayProbe:
    """Train a probe on frozen tokens, by a rate that rises, then falls as a cosine."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        probe = PlayProbe(tokens_BND.shape[2], num_heads)
    optimizer = torch.optim.AdamW(probe.parameters(), weight_decay=0.02)
    for step in range(options.steps):
        falling = 0.5 + 0.5 * math.cos(math.pi * step / options.steps)
        rate = options.rate * min(1, (step + 1) / options.warmup) * falling
        optimizer.param_groups[0]["lr"] = rate
        drawn = torch.randint(len(tokens_BND), (options.batch_size,), generator=generator)
        loss = F.smooth_l1_loss(probe(tokens_BND[drawn]), truth_BQ3[drawn], beta=BETA)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return probe.eval()


def errors(found_BQ3: Tensor, truth_BQ3: Tensor) -> dict[str, float]:
    """Return the mean distance of each quantity [m]; the object's motion where it moved."""
    distance_BQ = (found_BQ3 - truth_BQ3).norm(dim=-1)
    moved = truth_BQ3[:, QUANTITIES.index("object_motion")].norm(dim=-1) > MOVED_M
    row = {f"{name}_m": float(distance_BQ[:, i].mean()) for i, name in enumerate(QUANTITIES)}
    row["object_motion_m"] = float(distance_BQ[moved, QUANTITIES.index("object_motion")].mean())
    return row


def tokens_of(encoder: VideoEncoder, clips: Clips) -> Tensor:
    """Return an encoder's frozen tokens [B, N, D] of whole clips."""
    parts = torch.from_numpy(clips["frames"]).split(READ)
    return torch.cat([encoder.encode_clip(part) for part in parts]).float()


def pixels_of(encoder: VideoEncoder, train: Clips, unseen: Clips) -> tuple[Tensor, Tensor]:
    """Return as many principal components of each token's pixels as the encoder is wide."""
    c, found = encoder.backbone.config, []
    for clips in (train, unseen):
        parts = [encoder.clip_pixels(p) for p in torch.from_numpy(clips["frames"]).split(READ)]
        pixels = [patch_pixels(part, c.tubelet_size, c.patch_size) for part in parts]
        found.append(torch.cat(pixels))
    return principal_components(found[0], found[1], c.embed_dim)


def judge(
    path: Path, train: Clips, unseen: Clips, options: ProbeFit, *, raw: bool = False
) -> dict[str, Any]:
    """Fit probes on an encoder's tokens of clips and measure their errors on unseen ones.

    Tokens are read with each way of scaling; training clips held out from the fit choose.

    Args:
        path: The encoder's file.
        train: Clips of training episodes.
        unseen: Clips of held-out episodes.
        options: Steps and learning rate of the probes.
        raw: Judge the pixels instead of the encoder's tokens.
    """
    encoder = load_encoder(path, "cpu", "float32")
    assert isinstance(encoder, VideoEncoder)
    c = encoder.backbone.config
    side = c.image_size[0] // c.patch_size
    grid = (train["frames"].shape[1] // c.tubelet_size, side, side)
    if raw:
        seen_BND, unseen_BND = pixels_of(encoder, train, unseen)
    else:
        seen_BND, unseen_BND = tokens_of(encoder, train), tokens_of(encoder, unseen)
    truth, unseen_truth = quantities(train), quantities(unseen)
    mean, std = truth.mean(0), truth.std(0).clamp_min(1e-4)
    order = torch.randperm(len(truth), generator=torch.Generator().manual_seed(0))
    apart, fitted = order.tensor_split([max(1, round(options.held_out * len(order)))])
    rows = []
    for scaling in SCALINGS:
        x, x_unseen = scaled(seen_BND, unseen_BND, grid, scaling)
        probe = fit(x[fitted], ((truth - mean) / std)[fitted], c.num_heads, options)
        with torch.no_grad():
            held_out = F.smooth_l1_loss(probe(x[apart]), ((truth - mean) / std)[apart], beta=BETA)
            found = torch.cat([probe(part) for part in x_unseen.split(READ)]) * std + mean
        row: dict[str, Any] = {"scaling": scaling, "held_out_loss": float(held_out)}
        rows.append(row | errors(found, unseen_truth))
    best = min(rows, key=lambda row: row["held_out_loss"])
    rank = effective_rank(normalise(unseen_BND))
    return best | {"rank": rank, "both_scalings": rows}


def judge_mean(train: Clips, unseen: Clips) -> dict[str, Any]:
    """Return the errors of the training clips' mean, which sees no frame."""
    truth = quantities(unseen)
    mean = quantities(train).mean(0).expand_as(truth)
    moved = truth[:, QUANTITIES.index("object_motion")].norm(dim=-1) > MOVED_M
    return errors(mean, truth) | {"clips": len(truth), "clips_moving": int(moved.sum())}
