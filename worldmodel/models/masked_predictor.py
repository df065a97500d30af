"""Masked predictor of pretraining: predicts tokens at hidden positions from visible ones.

Source: V-JEPA (arXiv 2404.08471), sec. 3; V-JEPA 2 (arXiv 2506.09985), sec. 2.1; V-JEPA 2.1
(arXiv 2603.14482); I-JEPA (arXiv 2301.08243), sec. 3. Keys of the state dict are the published
ones.

Shapes: B clips, K context tokens, M target tokens, L = K + M, D encoder width, P predictor width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldmodel.errors import ConfigError, ShapeError
from worldmodel.models.config import MaskedPredictorConfig
from worldmodel.models.layers import Block, LayerNorm, initialise, rescale_blocks
from worldmodel.models.positions import position_table, positions_at
from worldmodel.models.rope import Tables, id_positions, rope_tables


class MaskedPredictor(nn.Module):
    """Predicts the encoder's tokens at hidden positions from those at visible positions."""

    def __init__(self, config: MaskedPredictorConfig) -> None:
        super().__init__()
        self.config = c = config
        if c.embed_hidden:
            self.predictor_embed: nn.Module = nn.Sequential(
                nn.Linear(c.encoder_dim, c.embed_hidden),
                nn.GELU(),
                nn.Linear(c.embed_hidden, c.embed_dim),
            )
        else:
            self.predictor_embed = nn.Linear(c.encoder_dim, c.embed_dim)
        self.mask_tokens = nn.ParameterList(
            nn.Parameter(torch.zeros(1, 1, c.embed_dim)) for _ in range(c.num_mask_tokens)
        )
        if c.modality_embedding:
            self.img_mod_embed = nn.Parameter(torch.zeros(1, 1, c.embed_dim))
            self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, c.embed_dim))
        if c.position != "rope":
            table = position_table(c.grid, c.embed_dim, image=c.position == "sincos_2d")
            self.predictor_pos_embed = nn.Parameter(table, requires_grad=False)
        hidden = int(c.embed_dim * c.mlp_ratio)
        self.predictor_blocks = nn.ModuleList(
            Block(c.embed_dim, c.num_heads, hidden) for _ in range(c.depth)
        )
        self.predictor_norm = LayerNorm(c.embed_dim, eps=1e-6)
        self.predictor_proj = nn.Linear(c.embed_dim, c.out_dim)
        if c.predict_context:
            self.predictor_proj_context = nn.Linear(c.embed_dim, c.out_dim)
        initialise(self)
        rescale_blocks(self.predictor_blocks)

    def mask_token_of(self, kind: int) -> int:
        """Return the index of the mask token that was trained for a kind of mask."""
        return kind % self.config.num_mask_tokens if self.config.mask_token_per_kind else 0

    def _check(
        self, context_BKD: Tensor, context_ids: Tensor, target_ids: Tensor, mask_token: int
    ) -> None:
        c = self.config
        batch, context = context_BKD.shape[:2]
        if context_BKD.shape[2] != c.encoder_dim or context_ids.shape != (batch, context):
            raise ShapeError(
                f"context {tuple(context_BKD.shape)} with ids {tuple(context_ids.shape)}: use "
                f"tokens [B, K, {c.encoder_dim}] and their ids [B, K]"
            )
        if target_ids.ndim != 2 or len(target_ids) != batch:
            raise ShapeError(f"target ids have shape {tuple(target_ids.shape)}; use [{batch}, M]")
        if not 0 <= mask_token < c.num_mask_tokens:
            raise ConfigError(
                f"mask_token={mask_token}: this model has 0 to {c.num_mask_tokens - 1}"
            )

    def _rope(self, ids_BL: Tensor, grid: tuple[int, int, int]) -> Tables:
        c = self.config
        positions = id_positions(ids_BL, grid[1], grid[2])
        cos, sin = rope_tables(positions.flatten(0, 1), c.embed_dim // c.num_heads, c.rope)
        shape = (len(ids_BL), 1, -1, cos.shape[-1])
        return cos.view(shape), sin.view(shape)

    def forward(
        self,
        context_BKD: Tensor,
        context_ids: Tensor,
        target_ids: Tensor,
        mask_token: int = 0,
        *,
        grid: tuple[int, int, int] | None = None,
        image: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Predict the encoder's tokens at `target_ids`.

        Args:
            context_BKD: The encoder's tokens at the visible positions.
            context_ids: Long [B, K], ids of these tokens.
            target_ids: Long [B, M], ids to predict.
            mask_token: Index of the learnable token that stands for hidden tokens;
                `mask_token_of` gives that of a kind of mask. V-JEPA 1 trained one for each kind of
                mask, V-JEPA 2 only token 0: its others are still zero. (Its published anticipation
                and transformers use token 1.)
            grid: Tubelets, rows and columns that the ids count in, for clips of another size than
                the model's own (not V-JEPA 1's). V-JEPA 2 files do not tell it: take it from the
                encoder's image and patch size.
            image: Whether the tokens come from the image path (V-JEPA 2.1).

        Returns:
            Predictions [B, M, out_dim]; for V-JEPA 2.1, predictions at targets and at context.

        Raises:
            ShapeError: Tokens and ids are inconsistent.
            ConfigError: The mask token is unknown, or a sin-cos model got another grid.
        """
        c = self.config
        self._check(context_BKD, context_ids, target_ids, mask_token)
        grid = grid or c.grid
        if c.position == "sincos" and grid != c.grid:
            raise ConfigError(f"grid={grid}: this model's position table is for {c.grid}")
        ids = torch.cat([context_ids, target_ids], dim=1)
        context = self.predictor_embed(context_BKD.to(self.predictor_norm.weight.dtype))
        masked = self.mask_tokens[mask_token].to(context.dtype)
        x = torch.cat([context, masked.expand(*target_ids.shape, -1)], dim=1)
        if c.position != "rope":
            table = positions_at(self.predictor_pos_embed, c.grid, grid, image=True)
            x = x + table.squeeze(0)[ids].to(self.predictor_pos_embed.dtype)
        if c.modality_embedding:
            x = x + (self.img_mod_embed if image else self.video_mod_embed)
        # The published code sorts the tokens by position first. Attention does not depend on the
        # order, and every token carries its own angles, so sorting would change nothing.
        rope = self._rope(ids, grid) if c.position == "rope" else None
        for block in self.predictor_blocks:
            x, _ = block(x, rope)
        x = self.predictor_norm(x)
        targets: Tensor = self.predictor_proj(x[:, context.shape[1] :])
        if not c.predict_context:
            return targets
        return targets, self.predictor_proj_context(x[:, : context.shape[1]])
