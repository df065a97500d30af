"""Losses of world-model training.

Shapes: B clips, T frames, N tokens per frame, D width, F = B * T frames.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def prediction_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute error of predicted tokens (V-JEPA 2, sec. 3.1)."""
    return (predicted - target).abs().mean()


def variance_loss(z_FD: Tensor, target_std: float = 1.0) -> Tensor:
    """Return the hinge loss that keeps each feature's deviation at `target_std` (VICReg)."""
    std_D = (z_FD.var(dim=0) + 1e-4).sqrt()
    return F.relu(target_std - std_D).mean()


def covariance_loss(z_FD: Tensor) -> Tensor:
    """Return the mean square of the off-diagonal covariances, times the width (VICReg)."""
    z_FD = z_FD - z_FD.mean(dim=0)
    cov_DD = z_FD.T @ z_FD / (len(z_FD) - 1)
    diagonal = torch.diagonal(cov_DD)
    return (cov_DD.square().sum() - diagonal.square().sum()) / len(diagonal)
