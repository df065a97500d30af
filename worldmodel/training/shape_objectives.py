"""What a run on made clips can learn besides V-JEPA's latent prediction: pixels or labels.

The encoder, the predictor and the masks are the same, so the runs can be compared.

Source of the pixel targets: MAE (arXiv 2111.06377), sec. 3: each patch's own mean and deviation.

Shapes: B clips, T frames, H W pixels, N tokens, D width, P pixels of a token, all channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodel.evaluation.shape_probe import ShapeProbe
from worldmodel.models.encoder import VisionTransformer
from worldmodel.training.batches import Batch
from worldmodel.training.config import VideoPretrainOptions
from worldmodel.training.masked_objective import MaskedObjective
from worldmodel.training.masking import Grid


def patch_pixels(clip_BCTHW: Tensor, tubelet: int, patch: int) -> Tensor:
    """Return the pixels of each token [B, N, P], in the order tubelet, row, column."""
    x = clip_BCTHW.unfold(2, tubelet, tubelet).unfold(3, patch, patch).unfold(4, patch, patch)
    return x.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4).flatten(1, 3)


class PixelObjective(MaskedObjective):
    """Masked prediction of pixels; the exported average is the encoder itself."""

    @property
    def out_dim(self) -> int:
        """Number of predicted values per token: its pixels."""
        c = self.target.config
        return 3 * c.tubelet_size * c.patch_size**2

    @torch.no_grad()
    def targets(self, clip_BCTHW: Tensor) -> Tensor:
        """Return each token's pixels with mean 0 and deviation 1: [B, N, P]."""
        c = self.target.config
        return F.layer_norm(patch_pixels(clip_BCTHW, c.tubelet_size, c.patch_size), (self.out_dim,))

    def error(self, predicted_BMD: Tensor, hidden_BMD: Tensor) -> Tensor:
        """Return the mean square error of predicted pixels."""
        return F.mse_loss(predicted_BMD, hidden_BMD)

    def update_target(self, momentum: float) -> None:
        """Copy the encoder: pixels need no moving average, and validations read the copy."""
        super().update_target(0.0)


class LabelObjective(PixelObjective):
    """Supervised training of the encoder with a probe, without masks."""

    def __init__(
        self, encoder: VisionTransformer, grid: Grid, options: VideoPretrainOptions
    ) -> None:
        super().__init__(encoder, grid, options)
        self.predictor.requires_grad_(False)
        self.probe = ShapeProbe(encoder.config.embed_dim, encoder.config.num_heads)

    def forward(self, batch: Batch) -> Batch:
        """Return the loss of the labels of whole clips."""
        tokens_BND = self.student.backbone(self.clip(batch["frames"]))
        return {"loss": self.probe.loss(tokens_BND, batch)}


OBJECTIVES: dict[str, type[MaskedObjective]] = {
    "latent": MaskedObjective,
    "pixels": PixelObjective,
    "labels": LabelObjective,
}
"""Objective of each value of `objective`."""
