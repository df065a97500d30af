"""Action-conditioned predictor (V-JEPA 2-AC), with a cached step for planning.

The tokens of a frame are action, [state], [extrinsics] and patches. Attention is block-causal:
every token attends to all tokens of its own and of earlier frames.
Source: V-JEPA 2 (arXiv 2506.09985), sec. 3.

Shapes: B clips, T frames, N patches per frame, D encoder width, P predictor width, L tokens, A
action, S state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldmodel.errors import ShapeError
from worldmodel.models.attention import Cache, Projected
from worldmodel.models.config import PredictorConfig
from worldmodel.models.frame_mask import FrameMask
from worldmodel.models.layers import Block, LayerNorm, initialise, rescale_blocks
from worldmodel.models.rope import Tables, grid_positions, rope_tables

CacheList = list[Cache]


class ActionConditionedPredictor(nn.Module):
    """Predicts the next frame's patch tokens; the state dict has the published keys."""

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.config = c = config
        self.predictor_embed = nn.Linear(c.encoder_dim, c.embed_dim)
        self.action_encoder = nn.Linear(c.action_dim, c.embed_dim)
        if c.use_state:
            self.state_encoder = nn.Linear(c.state_dim, c.embed_dim)
        if c.has_extrinsics_encoder:
            self.extrinsics_encoder = nn.Linear(c.action_dim - 1, c.embed_dim)
        hidden = int(c.embed_dim * c.mlp_ratio)
        self.predictor_blocks = nn.ModuleList(
            Block(c.embed_dim, c.num_heads, hidden) for _ in range(c.depth)
        )
        self.predictor_norm = LayerNorm(c.embed_dim, eps=1e-6)
        self.predictor_proj = nn.Linear(c.embed_dim, c.encoder_dim)
        initialise(self)
        rescale_blocks(self.predictor_blocks)
        nn.init.trunc_normal_(self.action_encoder.weight, std=c.embed_init_std)
        if c.use_state:
            nn.init.trunc_normal_(self.state_encoder.weight, std=c.embed_init_std)
        self._tables: dict[tuple[int, str], Tables] = {}
        self._masks: dict[tuple[int, int, str], FrameMask] = {}

    @property
    def num_patches(self) -> int:
        """Number of patch tokens per frame."""
        return self.config.grid[0] * self.config.grid[1]

    def _num_conditions(self, extrinsics: Tensor | None) -> int:
        c = self.config
        if c.use_extrinsics and extrinsics is None:
            raise ShapeError("this predictor was trained with extrinsics [B, T, 6]: pass them")
        if c.use_extrinsics is False and extrinsics is not None:
            raise ShapeError(
                "extrinsics given, but this predictor was built with use_extrinsics=False: "
                "leave them out"
            )
        return 1 + int(c.use_state) + int(extrinsics is not None)

    def _rope(self, first: int, last: int, num_conditions: int, device: torch.device) -> Tables:
        key = (num_conditions, str(device))
        size = num_conditions + self.num_patches
        if key not in self._tables:
            c = self.config
            patches = grid_positions(c.num_frames, *c.grid).unflatten(0, (c.num_frames, -1))
            conditions = torch.zeros(c.num_frames, num_conditions, 3)
            conditions[..., 0] = torch.arange(c.num_frames)[:, None]
            positions = torch.cat([conditions, patches], dim=1).flatten(0, 1).to(device)
            self._tables[key] = rope_tables(positions, c.embed_dim // c.num_heads, c.rope)
        cos, sin = self._tables[key]
        return cos[first * size : last * size], sin[first * size : last * size]

    def _mask(self, frames: int, size: int, device: torch.device) -> FrameMask:
        key = (frames, size, str(device))
        if key not in self._masks:
            self._masks[key] = FrameMask(frames, size, device)
        return self._masks[key]

    def _tokens(
        self,
        frames_BTND: Tensor,
        actions_BTA: Tensor,
        states_BTS: Tensor,
        extrinsics: Tensor | None,
    ) -> Tensor:
        conditions = [_embed(self.action_encoder, actions_BTA)]
        if self.config.use_state:
            conditions.append(_embed(self.state_encoder, states_BTS))
        if extrinsics is not None:
            conditions.append(_embed(self.extrinsics_encoder, extrinsics))
        stacked = torch.stack(conditions, dim=2)
        return torch.cat([stacked, _embed(self.predictor_embed, frames_BTND)], dim=2)

    def _out(self, x_BTLP: Tensor, frames_BTND: Tensor) -> Tensor:
        out: Tensor = self.predictor_proj(self.predictor_norm(x_BTLP[:, :, -self.num_patches :]))
        if self.predictor_norm.weight.dtype == torch.bfloat16:
            out = out.float()  # frames are sums of predicted changes, and are normalised next
        return frames_BTND + out if self.config.residual else out

    def forward(
        self,
        frames: Tensor,
        actions_BTA: Tensor,
        states_BTS: Tensor,
        extrinsics: Tensor | None = None,
    ) -> Tensor:
        """Predict the frame after each input frame.

        Inputs are converted to the data type of the weights; of weights in bfloat16, the output is
        float32.

        Args:
            frames: encoder tokens [B, T * N, D].
            actions_BTA: the action taken at each frame.
            states_BTS: robot state at each frame.
            extrinsics: camera pose [B, T, 6]; see `PredictorConfig.use_extrinsics`.

        Returns:
            [B, T * N, D]; the caller applies LayerNorm without weights.

        Raises:
            ShapeError: the numbers of tokens, actions and states are inconsistent.
        """
        time = actions_BTA.shape[1]
        if frames.shape[1] != time * self.num_patches or states_BTS.shape[1] != time:
            raise ShapeError(
                f"{frames.shape[1]} tokens, {time} actions and {states_BTS.shape[1]} states were "
                f"given; use T * {self.num_patches} tokens, T actions and T states"
            )
        self._require_positions(time)
        frames_BTND = frames.unflatten(1, (time, -1))
        conditions = self._num_conditions(extrinsics)
        x = self._tokens(frames_BTND, actions_BTA, states_BTS, extrinsics)
        size = x.shape[2]
        x = x.flatten(1, 2)
        rope, mask = self._rope(0, time, conditions, x.device), self._mask(time, size, x.device)
        for block in self.predictor_blocks:
            x, _ = block(x, rope, mask if time > 1 else None)
        return self._out(x.unflatten(1, (time, size)), frames_BTND).flatten(1, 2)

    def _require_positions(self, num_frames: int) -> None:
        if num_frames > self.config.num_frames:
            raise ShapeError(
                f"{num_frames} frames (past, present and imagined) are too many; this predictor "
                f"takes at most {self.config.num_frames}. Use a shorter horizon or clip"
            )

    def step(
        self,
        frame_BND: Tensor,
        action_BA: Tensor,
        state_BS: Tensor,
        cache: CacheList | None = None,
        extrinsics_B6: Tensor | None = None,
        *,
        shared: CacheList | None = None,
        keep_cache: bool = True,
    ) -> tuple[Tensor, CacheList]:
        """Predict the next frame, with keys and values of past frames from `cache`.

        A new frame attends to everything in the cache and to itself, so no mask is needed. The
        result equals `forward` on the whole history. Inputs shared by all samples (frame, state,
        cache) may have batch 1; the embedding and the first layer project them once.

        Args:
            frame_BND: tokens of the newest frame.
            action_BA: its action, which sets the batch size.
            state_BS: its state.
            cache: cache returned by the previous step.
            extrinsics_B6: camera pose.
            shared: cache of batch 1 for frames before those of `cache`; it is not copied per sample
                and not part of the returned cache.
            keep_cache: whether to return the cache; False at the last step saves memory.

        Returns:
            The predicted tokens [B, N, D], and the cache for the next step.

        Raises:
            ShapeError: the past has as many frames as the predictor takes.
        """
        batch = len(action_BA)
        parts = [_embed(self.action_encoder, action_BA)[:, None]]
        conditions = self._num_conditions(extrinsics_B6)
        if self.config.use_state:
            parts.append(_embed(self.state_encoder, state_BS)[:, None])
        if extrinsics_B6 is not None:
            parts.append(_embed(self.extrinsics_encoder, extrinsics_B6)[:, None])
        parts.append(_embed(self.predictor_embed, frame_BND))
        size = conditions + self.num_patches
        past_frames = sum(c[0][0].shape[2] // size for c in (shared, cache) if c)
        self._require_positions(past_frames + 1)
        rope = self._rope(past_frames, past_frames + 1, conditions, frame_BND.device)
        x = torch.cat([part.expand(batch, -1, -1) for part in parts], dim=1)
        now: CacheList = []
        last = len(self.predictor_blocks) - 1
        for i, block in enumerate(self.predictor_blocks):
            if i == 0 and any(len(part) < batch for part in parts):
                projected = _project_parts(block, parts, rope, batch)  # type: ignore[arg-type]
            else:
                projected = block.attn.project(block.norm1(x), rope)  # type: ignore[operator, union-attr]
            x, kept = block.finish(  # type: ignore[operator]
                x,
                projected,
                None,
                cache[i] if cache else None,
                self.num_patches if i == last else None,
                shared[i] if shared else None,
            )
            if keep_cache:
                now.append(kept)
        return self._out(x.unsqueeze(1), frame_BND.unsqueeze(1)).squeeze(1), now


def _embed(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply an input layer in the data type of its weights."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    out: Tensor = layer(x.to(weight.dtype))
    return out


def _project_parts(block: Block, parts: list[Tensor], rope: Tables, batch: int) -> Projected:
    """Project a frame's tokens to queries, keys and values, and parts of batch 1 only once."""
    found, start = [], 0
    for part in parts:
        tables = (rope[0][start : start + part.shape[1]], rope[1][start : start + part.shape[1]])
        found.append(block.attn.project(block.norm1(part), tables))
        start += part.shape[1]
    q, k, v = (
        torch.cat([x.expand(batch, -1, -1, -1) for x in same], dim=2)
        for same in zip(*found, strict=True)
    )
    return q, k, v
