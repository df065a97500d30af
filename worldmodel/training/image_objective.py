"""I-JEPA's objective: predict the tokens of several blocks of an image from one visible block.

Source: I-JEPA (arXiv 2301.08243), sec. 3; the released code takes smooth L1 where the paper has L2.

Shapes: B images, N tokens, D width, G target blocks, K context tokens, M tokens of a block; rows of
predictions and targets are [G * B, M, D], block by block, images within a block.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.models.config import EncoderConfig, MaskedPredictorConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import normalise
from worldmodel.models.masked_predictor import MaskedPredictor
from worldmodel.training.batches import Batch
from worldmodel.training.image_masking import ImageIds
from worldmodel.training.masked_objective import move_average
from worldmodel.training.masking import gather_tokens


def image_predictor(
    encoder: EncoderConfig, *, embed_dim: int = 384, depth: int = 12
) -> MaskedPredictor:
    """Build the predictor for an encoder; as published, it has as many heads as the encoder."""
    rows, columns = (side // encoder.patch_size for side in encoder.image_size)
    return MaskedPredictor(
        MaskedPredictorConfig(
            grid=(1, rows, columns),
            encoder_dim=encoder.embed_dim,
            out_dim=encoder.embed_dim,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=encoder.num_heads,
            num_mask_tokens=1,
            mask_token_per_kind=False,
            position="sincos_2d",
        )
    )


class ImageObjective(nn.Module):
    """Encoder, its moving average and predictor; `forward` returns the loss of a batch.

    Args:
        encoder: The encoder to train, with a position table of an image.
        predictor: The predictor to train.
        target: The moving average; None starts from a copy of the encoder.
    """

    def __init__(
        self,
        encoder: VisionTransformer,
        predictor: MaskedPredictor,
        target: VisionTransformer | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.predictor = encoder, predictor
        self.target = (target or copy.deepcopy(encoder)).requires_grad_(False)

    def predict(self, images_BCHW: Tensor, ids: ImageIds) -> Tensor:
        """Predict the tokens of the target blocks [G * B, M, D] from normalised images."""
        context_BKD = self.encoder(images_BCHW.unsqueeze(2), ids.context)
        repeats = len(ids.targets)
        out = self.predictor(
            context_BKD.repeat(repeats, 1, 1),
            ids.context.repeat(repeats, 1),
            ids.targets.flatten(0, 1),
        )
        assert isinstance(out, Tensor)
        return out

    @torch.no_grad()
    def targets(self, images_BCHW: Tensor, ids: ImageIds) -> Tensor:
        """Encode the whole images; return layer-normalised tokens of the blocks [G * B, M, D]."""
        tokens_BND = normalise(self.target(images_BCHW.unsqueeze(2)).float())
        return torch.cat([gather_tokens(tokens_BND, block_BM) for block_BM in ids.targets])

    def loss(self, images_BCHW: Tensor, ids: ImageIds) -> Tensor:
        """Return the smooth L1 loss (beta 1) on normalised images, averaged over all numbers."""
        predicted = self.predict(images_BCHW, ids).float()
        return F.smooth_l1_loss(predicted, self.targets(images_BCHW, ids))

    def forward(self, batch: Batch) -> Batch:
        """Return the loss of `images` [B,3,H,W] with ids `context` [B,K] and `targets` [B,G,M]."""
        ids = ImageIds(context=batch["context"], targets=batch["targets"].transpose(0, 1))
        return {"loss": self.loss(batch["images"], ids)}

    def update_target(self, momentum: float) -> None:
        """Move the target a step of 1 - momentum toward the encoder (published: 0.996 to 1)."""
        move_average(self.target, self.encoder, momentum)
