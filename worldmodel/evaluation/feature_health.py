"""Detect collapsed features by their spread, their rank and a linear probe.

Self-supervised features can collapse in two ways that a low loss hides: to one constant, or to one
constant per position, independent of the image. The mean of every position over clips is therefore
subtracted first.

Shapes: B clips, N tokens, D width, F frames, X features of a frame, Y targets.
"""

from __future__ import annotations

import torch
from torch import Tensor

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def centred(tokens_BND: Tensor) -> Tensor:
    """Return tokens [B * N, D] minus their position's mean over clips."""
    tokens = tokens_BND.float()
    return (tokens - tokens.mean(dim=0, keepdim=True)).flatten(0, 1)


def feature_std(tokens_BND: Tensor) -> float:
    """Return the mean standard deviation over clips; 0 if all clips have equal features."""
    return float(centred(tokens_BND).std(dim=0).mean())


def effective_rank(tokens_BND: Tensor) -> float:
    """Return the effective rank, 1 to D: the exponential of the covariance spectrum's entropy.

    Source: Roy and Vetterli, "The effective rank", 2007, on eigenvalues of the covariance.
    """
    rows = centred(tokens_BND).double()
    spectrum = torch.linalg.eigvalsh(rows.T @ rows).clamp_min(0.0)
    total = spectrum.sum()
    if total <= 0:
        return 1.0
    share = spectrum / total
    return float(torch.exp(-(share * share.clamp_min(1e-30).log()).sum()))


def _solve(gram_FF: Tensor, y_FY: Tensor, ridge: float) -> Tensor:
    return torch.linalg.solve(gram_FF + ridge * torch.eye(len(gram_FF), dtype=gram_FF.dtype), y_FY)


def linear_probe(x_FX: Tensor, y_FY: Tensor, unseen_FX: Tensor) -> Tensor:
    """Fit a ridge regression in closed form; return predictions [F', Y] for unseen features.

    It solves in the space of frames, so the cost does not grow with the feature width. The ridge is
    selected on the last quarter of the frames after fitting on the others.
    """
    x, y, unseen = x_FX.double(), y_FY.double(), unseen_FX.double()
    middle, y_mean = x.mean(0), y.mean(0)
    x, unseen, y = x - middle, unseen - middle, y - y_mean
    scale = x.square().sum(1).mean().clamp_min(1e-12)
    gram_FF = x @ x.T / scale
    cut = 3 * len(x) // 4
    errors = [
        float((gram_FF[cut:, :cut] @ _solve(gram_FF[:cut, :cut], y[:cut], r) - y[cut:]).norm())
        for r in RIDGES
    ]
    best = RIDGES[errors.index(min(errors))]
    return (unseen @ x.T / scale @ _solve(gram_FF, y, best) + y_mean).to(y_FY.dtype)


def mean_distance(found_FY: Tensor, wanted_FY: Tensor) -> float:
    """Return the mean Euclidean error in the targets' unit."""
    return float((found_FY - wanted_FY).norm(dim=-1).mean())


def explained_share(colours_BNC: Tensor, tokens_BND: Tensor) -> float:
    """Return the share of the features' variance that each token's mean colour explains, 0 to 1.

    A linear fit on the colour channels, their squares and products explains it; 1 means that the
    features hold nothing but the colour. Each position's mean is subtracted first.
    """
    colour, tokens = centred(colours_BNC).double(), centred(tokens_BND).double()
    pairs = torch.combinations(torch.arange(colour.shape[1]), with_replacement=True)
    products = colour[:, pairs[:, 0]] * colour[:, pairs[:, 1]]
    x = torch.cat([colour, products, torch.ones_like(colour[:, :1])], dim=1)
    gram = x.T @ x + 1e-6 * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    left = tokens - x @ torch.linalg.solve(gram, x.T @ tokens)
    return float(1 - left.square().sum() / tokens.square().sum().clamp_min(1e-12))
