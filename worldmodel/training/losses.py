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


def sigreg_loss(z_FD: Tensor, slices: int = 128) -> Tensor:
    """Return how far features are from a standard normal distribution, along random directions.

    It is the Epps-Pulley statistic, the squared difference of characteristic functions integrated
    over -5 to 5 with a normal window, averaged over directions that are drawn at each call. It
    is not multiplied by the number of features F.

    Source: LeJEPA (arXiv 2511.08544), sec. 4; LeWorldModel (arXiv 2603.19312), app. A.

    Args:
        z_FD: Features.
        slices: Number of directions.
    """
    directions_DS = F.normalize(torch.randn(z_FD.shape[1], slices, device=z_FD.device), dim=0)
    points_P = torch.linspace(-5, 5, 17, device=z_FD.device)
    normal_P = torch.exp(-points_P.square() / 2)
    angles_FSP = (z_FD.float() @ directions_DS)[..., None] * points_P
    error_SP = (angles_FSP.cos().mean(0) - normal_P).square() + angles_FSP.sin().mean(0).square()
    return torch.trapezoid(error_SP * normal_P, points_P, dim=1).mean()
