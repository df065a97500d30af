"""Attentive probe for the labels of made clips: shape, direction, speed and position.

Shapes: B clips, N tokens, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.checked import Checked, between
from worldmodel.data.shape_options import LABELS
from worldmodel.models.config import ProbeConfig
from worldmodel.models.frame_encoder import normalise
from worldmodel.models.positions import sincos_positions
from worldmodel.models.probe import AttentivePooler

POSITION_WEIGHT, POSITION_BETA = 5.0, 0.02
"""Weight of the position's smooth L1 loss, and the error where it turns linear [sides]."""
Scaling = Literal["channels", "tokens"]
SCALINGS: tuple[Scaling, ...] = ("channels", "tokens")
"""Ways to scale features, see `scaled`."""
Labels = dict[str, Tensor]
"""Class numbers long [B] of `LABELS`, and `position` float [B, 2]."""


class ShapeProbe(nn.Module):
    """One query per label attends to all tokens; a linear layer reads each query."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        sizes = {name: len(classes) for name, classes in LABELS.items()} | {"position": 2}
        self.pooler = AttentivePooler(
            ProbeConfig(embed_dim=embed_dim, num_heads=num_heads, depth=1, num_queries=len(sizes))
        )
        self.heads = nn.ModuleDict({n: nn.Linear(embed_dim, size) for n, size in sizes.items()})

    def forward(self, tokens_BND: Tensor) -> Labels:
        """Return logits [B, classes] of each label and the position [B, 2]."""
        pooled_BQD = self.pooler(tokens_BND)
        return {
            name: head(pooled_BQD[:, i]).float()
            for i, (name, head) in enumerate(self.heads.items())
        }

    def loss(self, tokens_BND: Tensor, labels: Labels) -> Tensor:
        """Return the sum of the cross-entropies and the position's weighted loss."""
        found = self(tokens_BND)
        distance = F.smooth_l1_loss(found["position"], labels["position"], beta=POSITION_BETA)
        losses = [F.cross_entropy(found[name], labels[name]) for name in LABELS]
        return torch.stack(losses).sum() + POSITION_WEIGHT * distance


@dataclass(frozen=True, kw_only=True)
class ProbeFit(Checked):
    """Training of a probe: a fixed number of steps whose rate rises, then falls as a cosine.

    To stop once the held-out loss improves no more was tried, and reads less: it keeps the weights
    of 500 to 700 steps.
    """

    batch_size: int = field(default=64, metadata=between(1, 65536, "clips"))
    """Number of clips per step."""
    rate: float = field(default=2e-3, metadata=between(1e-9, 1))
    """Highest learning rate."""
    warmup: int = field(default=40, metadata=between(1, 10_000_000, "steps"))
    """Number of steps in which the rate rises."""
    steps: int = field(default=1200, metadata=between(1, 10_000_000, "steps"))
    """Number of steps."""
    held_out: float = field(default=0.15, metadata=between(0.01, 0.9))
    """Share of the clips that are not trained on, to choose between scalings."""


@dataclass(frozen=True)
class FittedProbe:
    """A trained probe."""

    probe: ShapeProbe
    held_out_right: float
    """Share of the held-out clips' classes that are right, averaged over the labels."""


def fit_shape_probe(
    tokens_BND: Tensor, labels: Labels, num_heads: int, fit: ProbeFit, seed: int = 0
) -> FittedProbe:
    """Train a probe on frozen tokens.

    Args:
        tokens_BND: Tokens of the training clips, see `scaled`; the probe is trained on their
            device.
        labels: Their labels, on the same device.
        num_heads: Attention heads of the probe.
        fit: Steps and learning rate.
        seed: Seed of the weights and of the order.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = ShapeProbe(tokens_BND.shape[2], num_heads).to(tokens_BND.device)
    order = torch.randperm(len(tokens_BND), generator=generator)
    cut = max(1, round(fit.held_out * len(order)))
    apart, fitted = order[:cut].to(tokens_BND.device), order[cut:]
    optimizer = torch.optim.AdamW(probe.parameters(), weight_decay=0.02)
    for step in range(fit.steps):
        falling = 0.5 + 0.5 * math.cos(math.pi * step / fit.steps)
        optimizer.param_groups[0]["lr"] = fit.rate * min(1, (step + 1) / fit.warmup) * falling
        drawn = torch.randint(len(fitted), (fit.batch_size,), generator=generator)
        chosen = fitted[drawn].to(tokens_BND.device)
        loss = probe.loss(tokens_BND[chosen], _rows(labels, chosen))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    probe.eval()
    with torch.no_grad():
        found, truth = probe(tokens_BND[apart]), _rows(labels, apart)
    right = [(found[name].argmax(1) == truth[name]).double().mean() for name in LABELS]
    return FittedProbe(probe, float(torch.stack(right).mean()))


def _rows(labels: Labels, chosen: Tensor) -> Labels:
    return {name: values[chosen] for name, values in labels.items()}


def scaled(
    train_BND: Tensor, unseen_BND: Tensor, grid: tuple[int, int, int], by: Scaling
) -> tuple[Tensor, Tensor]:
    """Bring features to mean 0 and deviation 1, and add a table of positions.

    Which scaling suits depends on the features: among channels of very different spread, `channels`
    makes those that hardly vary as loud as the others, and `tokens` leaves small ones small. So all
    features to compare, pixels too, are read in both ways, and held-out clips choose.

    Args:
        train_BND: Features of the training clips.
        unseen_BND: Features of other clips.
        grid: Tubelets, rows and columns of tokens.
        by: `channels`: every channel over all training tokens; `tokens`: the channels of each
            token, as in a layer norm.
    """
    table = sincos_positions(*grid, train_BND.shape[2]).to(train_BND)
    if by == "tokens":
        return normalise(train_BND) + table, normalise(unseen_BND) + table
    mean, std = train_BND.mean((0, 1)), train_BND.std((0, 1)).clamp_min(1e-6)
    train, unseen = ((x - mean) / std + table for x in (train_BND, unseen_BND))
    return train, unseen


def principal_components(
    train_BNP: Tensor, unseen_BNP: Tensor, width: int
) -> tuple[Tensor, Tensor]:
    """Project tokens of many values on the first components of the training tokens' variance."""
    rows = train_BNP.flatten(0, 1)
    mean = rows.mean(0)
    axes = torch.linalg.eigh((rows - mean).T @ (rows - mean)).eigenvectors[:, -width:]
    return (train_BNP - mean) @ axes, (unseen_BNP - mean) @ axes


def score(found: Labels, labels: Labels, side_px: int) -> dict[str, float]:
    """Return the share of correct classes and the mean position error [px].

    Args:
        found: Output of the probe.
        labels: The truth.
        side_px: Height and width of the frames.
    """
    row = {n: float((found[n].argmax(1) == labels[n]).double().mean()) for n in LABELS}
    row["position_px"] = side_px * float(
        (found["position"] - labels["position"]).norm(dim=1).mean()
    )
    return row
