"""Linear heads on a frozen encoder's tokens that read depth or classes, and their scores.

Source: V-JEPA 2.1 (arXiv 2603.14482), app. C: a learned batch norm and a linear layer.

Shapes: B images, N = R C tokens in rows and columns, D width, K outputs, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.perception.dense.config import Task
from worldmodel.perception.dense.labelled_images import VOID

FINER = 4
"""In training, predictions and truth are compared on a grid this many times finer than the
tokens'."""


class DenseHead(nn.Module):
    """Batch norm and a linear layer, the same for every token.

    Args:
        width: Width of a token.
        outputs: Number of classes, or 1 for depth.
        grid: Rows and columns of tokens.
        scale: Mean and deviation of the depth, by which the output is scaled [m].
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        grid: tuple[int, int],
        scale: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__()
        self.grid, self.scale = grid, scale
        self.norm = nn.BatchNorm1d(width)
        self.linear = nn.Linear(width, outputs)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Return logits of the classes, or depths [m]: [B, K, R, C]."""
        normed = self.norm(tokens_BND.float().transpose(1, 2)).transpose(1, 2)
        found_BNK = self.linear(normed) * self.scale[1] + self.scale[0]
        return found_BNK.transpose(1, 2).unflatten(2, self.grid)


def resized_to(found_BKRC: Tensor, size: Sequence[int]) -> Tensor:
    """Resize predictions bilinearly to pixels [B, K, H, W]."""
    return F.interpolate(found_BKRC, list(size), mode="bilinear", align_corners=False)


def as_map(found_KHW: Tensor, task: Task) -> Tensor:
    """Return an image's depths [H, W] in metres, or its most likely class numbers, int64."""
    return found_KHW[0] if task == "depth" else found_KHW.argmax(0)


def segmentation_loss(found_BKRC: Tensor, truth_BHW: Tensor) -> Tensor:
    """Return the sum over images of the mean cross-entropy of the pixels that have a class."""
    logits = resized_to(found_BKRC, truth_BHW.shape[1:])
    each = F.cross_entropy(logits, truth_BHW, ignore_index=VOID, reduction="none")
    return _means(each, truth_BHW != VOID).sum()


def depth_loss(found_B1RC: Tensor, truth_BHW: Tensor) -> Tensor:
    """Return the mean square error of each image's known depths [m2], summed over images."""
    known = truth_BHW.isfinite()
    error = resized_to(found_B1RC, truth_BHW.shape[1:])[:, 0] - truth_BHW.nan_to_num()
    return _means(error.square() * known, known).sum()


def _means(each_BHW: Tensor, known_BHW: Tensor) -> Tensor:
    """Return each image's mean over its known pixels [B]; the other values must be 0."""
    return each_BHW.sum((1, 2)) / known_BHW.sum((1, 2)).clamp_min(1)


class SegmentationScore:
    """Intersection over union of classes, over all pixels of all images."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.counts = torch.zeros(classes, classes, dtype=torch.int64)
        """Pixels [true class, predicted class]."""
        self.finite = True
        """Whether all logits were finite."""

    def add(self, found_KHW: Tensor, truth_HW: Tensor) -> None:
        """Count the pixels of one image, from logits; classes that training never saw count too."""
        self.finite &= bool(found_KHW.isfinite().all())
        known = truth_HW != VOID
        truth, found = truth_HW[known], found_KHW.argmax(0)[known]
        pairs = (truth * self.classes + found).cpu()
        self.counts += torch.bincount(pairs, minlength=self.classes**2).view_as(self.counts)

    def figures(self) -> dict[str, float]:
        """Return `mean_iou` over the classes that occur, and the share of right pixels."""
        right = self.counts.diagonal().double()
        union = self.counts.sum(0) + self.counts.sum(1) - self.counts.diagonal()
        occurs = self.counts.sum(1) > 0
        return {
            "mean_iou": float((right / union.clamp_min(1))[occurs].mean()),
            "pixel_accuracy": float(right.sum() / self.counts.sum()),
        }

    def quality(self) -> float:
        """Return the figure by which a head is chosen; higher is better, -inf if it diverged."""
        return self.figures()["mean_iou"] if self.finite else -math.inf


class DepthScore:
    """Errors of depths, means over images."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float]] = []

    def add(self, found_1HW: Tensor, truth_HW: Tensor) -> None:
        """Measure one image."""
        known = truth_HW.isfinite()
        truth = truth_HW[known].double()
        error = found_1HW[0][known].double() - truth
        relative = error.abs() / truth
        self.rows.append((float(error.square().mean().sqrt()), float(relative.mean())))

    def figures(self) -> dict[str, float]:
        """Return `rmse_m` [m] and the mean relative error."""
        rmse, relative = torch.tensor(self.rows, dtype=torch.float64).mean(0).tolist()
        return {"rmse_m": rmse, "relative_error": relative}

    def quality(self) -> float:
        """Return the figure by which a head is chosen; higher is better, -inf if it diverged."""
        error = self.figures()["rmse_m"]
        return -error if math.isfinite(error) else -math.inf
