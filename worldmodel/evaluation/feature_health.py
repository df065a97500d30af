"""Whether features are alive: spread, rank, and what a linear probe reads from them.

Self-supervised features can collapse in two ways that a low loss hides: to one constant, or to a
constant per position that says nothing of the picture. So the mean of every position over clips
is taken off before anything is measured.

Shapes: B clips, N tokens, D width, F frames, X features of a frame, Y targets.
"""

from __future__ import annotations

import torch
from torch import Tensor

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def centred(tokens_BND: Tensor) -> Tensor:
    """Tokens [B * N, D] with every position's mean over clips taken off."""
    tokens = tokens_BND.float()
    return (tokens - tokens.mean(dim=0, keepdim=True)).flatten(0, 1)


def feature_std(tokens_BND: Tensor) -> float:
    """Mean over features of their spread over clips; 0 when every clip looks the same."""
    return float(centred(tokens_BND).std(dim=0).mean())


def effective_rank(tokens_BND: Tensor) -> float:
    """Exponential of the entropy of the covariance's spectrum: 1 (one direction) .. D.

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
    """Ridge regression in closed form; predictions [F', Y] for unseen features.

    Solved over frames, not features, so that wide features cost nothing. The ridge is the one
    that does best on the last quarter of the frames when fitted on the others.
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
    """Mean Euclidean error, in the targets' unit."""
    return float((found_FY - wanted_FY).norm(dim=-1).mean())
