"""Action-conditioned predictor (V-JEPA 2-AC), with a cached step for planning.

The tokens of a frame are action, [state], [extrinsics] and patches; with `conditioning=adaln` they
are the patches alone, and the sum of the other embeddings modulates every block. Attention is
block-causal: every token attends to all tokens of its own and of earlier frames.

The patches of several views lie one view behind the other, and attend to each other like those of
one. Rotary positions are frame, row and column within a view, so they repeat from view to view: a
row of one camera is not above or below a row of another. A learned embedding of each view tells
them apart.

Sources: V-JEPA 2 (arXiv 2506.09985), sec. 3; JEPA-WMs (arXiv 2512.24497).

Shapes: B clips, T frames, N patches per frame (of all views), D encoder width, P predictor width, L
tokens, A action, S state.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.errors import ShapeError
from worldmodel.models.attention import Cache, Projected
from worldmodel.models.config import PredictorConfig
from worldmodel.models.frame_mask import FrameMask
from worldmodel.models.layers import AdaptiveBlock, Block, LayerNorm, initialise, rescale_blocks
from worldmodel.models.rope import Tables, grid_positions, rope_tables

CacheList = list[Cache]


class Step(NamedTuple):
    """Result of one predicted step."""

    frame_BND: Tensor
    """Predicted tokens."""
    cache: CacheList
    """Keys and values for the next step."""
    state_BS: Tensor | None
    """Predicted robot state in the predictor's units; None if the predictor predicts none."""


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
        self.is_adaptive = c.conditioning == "adaln"
        kind = AdaptiveBlock if self.is_adaptive else Block
        self.predictor_blocks = nn.ModuleList(
            kind(c.embed_dim, c.num_heads, hidden) for _ in range(c.depth)
        )
        self.predictor_norm = LayerNorm(c.embed_dim, eps=1e-6)
        self.predictor_proj = nn.Linear(c.embed_dim, c.encoder_dim)
        if c.predict_state:
            self.state_proj = nn.Linear(c.embed_dim, c.state_dim)
        if c.num_views > 1:
            self.view_embed = nn.Parameter(torch.zeros(c.num_views, c.embed_dim))
        initialise(self)
        rescale_blocks(self.predictor_blocks)
        if self.is_adaptive:
            for block in cast(Iterable[AdaptiveBlock], self.predictor_blocks):
                nn.init.zeros_(block.modulation.weight)
        nn.init.trunc_normal_(self.action_encoder.weight, std=c.embed_init_std)
        if c.use_state:
            nn.init.trunc_normal_(self.state_encoder.weight, std=c.embed_init_std)
        if c.num_views > 1:
            nn.init.trunc_normal_(self.view_embed, std=c.embed_init_std)
        self._tables: dict[tuple[int, str], Tables] = {}
        self._masks: dict[tuple[int, int, str], FrameMask] = {}

    @property
    def num_patches(self) -> int:
        """Number of patch tokens per frame, of all views."""
        return self.config.num_tokens

    def _num_conditions(self, extrinsics: Tensor | None) -> int:
        """Return the number of condition tokens of a frame."""
        c = self.config
        if c.use_extrinsics and extrinsics is None:
            raise ShapeError("this predictor was trained with extrinsics [B, T, 6]: pass them")
        if c.use_extrinsics is False and extrinsics is not None:
            raise ShapeError(
                "extrinsics given, but this predictor was built with use_extrinsics=False: "
                "leave them out"
            )
        return 0 if self.is_adaptive else 1 + int(c.use_state) + int(extrinsics is not None)

    def _rope(self, first: int, last: int, num_conditions: int, device: torch.device) -> Tables:
        key = (num_conditions, str(device))
        size = num_conditions + self.num_patches
        if key not in self._tables:
            c = self.config
            patches = grid_positions(c.num_frames, *c.grid).unflatten(0, (c.num_frames, -1))
            patches = patches.repeat(1, c.num_views, 1)
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

    def _conditions(
        self, actions_BTA: Tensor, states_BTS: Tensor, extrinsics_BT6: Tensor | None
    ) -> list[Tensor]:
        """Embed action, state and camera pose, each to [B, T, P]."""
        found = [_embed(self.action_encoder, actions_BTA)]
        if self.config.use_state:
            found.append(_embed(self.state_encoder, states_BTS))
        if extrinsics_BT6 is not None:
            found.append(_embed(self.extrinsics_encoder, extrinsics_BT6))
        return found

    def _embed_patches(self, frames_BND: Tensor) -> Tensor:
        """Embed patch tokens [..., N, D] to [..., N, P], with the embedding of their view."""
        x = _embed(self.predictor_embed, frames_BND)
        if self.config.num_views == 1:
            return x
        rows, columns = self.config.grid
        return x + self.view_embed.repeat_interleave(rows * columns, 0)

    def _features(self, x_BTLP: Tensor) -> Tensor:
        features_BTNP: Tensor = self.predictor_norm(x_BTLP[:, :, -self.num_patches :])
        return features_BTNP

    def _state(self, features_B1NP: Tensor) -> Tensor | None:
        """Predict the next state from the mean of the tokens that the next frame comes from."""
        if not self.config.predict_state:
            return None
        state_BS: Tensor = self.state_proj(features_B1NP.mean((1, 2)))
        return state_BS.float() if state_BS.dtype == torch.bfloat16 else state_BS

    def _frames(self, features_BTNP: Tensor, frames_BTND: Tensor) -> Tensor:
        out: Tensor = self.predictor_proj(features_BTNP)
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
            frames: Encoder tokens [B, T * N, D].
            actions_BTA: The action taken at each frame.
            states_BTS: Robot state at each frame.
            extrinsics: Camera pose [B, T, 6]; see `PredictorConfig.use_extrinsics`.

        Returns:
            [B, T * N, D]; the caller applies LayerNorm without weights.

        Raises:
            ShapeError: The numbers of tokens, actions and states are inconsistent.
        """
        time = actions_BTA.shape[1]
        if frames.shape[1] != time * self.num_patches or states_BTS.shape[1] != time:
            raise ShapeError(
                f"{frames.shape[1]} tokens, {time} actions and {states_BTS.shape[1]} states were "
                f"given; use T * {self.num_patches} tokens, T actions and T states"
            )
        self._require_positions(time)
        frames_BTND = frames.unflatten(1, (time, -1))
        num_conditions = self._num_conditions(extrinsics)
        conditions = self._conditions(actions_BTA, states_BTS, extrinsics)
        size = num_conditions + self.num_patches
        rope = self._rope(0, time, num_conditions, frames.device)
        mask = self._mask(time, size, frames.device) if time > 1 else None
        x = self._embed_patches(frames_BTND)
        given: tuple[Tensor, ...] = ()
        if self.is_adaptive:
            given = (F.silu(sum(conditions[1:], conditions[0])),)
        else:
            x = torch.cat([torch.stack(conditions, dim=2), x], dim=2)
        x = x.flatten(1, 2)
        for block in self.predictor_blocks:
            x, _ = block(x, *given, rope, mask)
        features = self._features(x.unflatten(1, (time, size)))
        return self._frames(features, frames_BTND).flatten(1, 2)

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
        """Return the predicted tokens and the cache of `step_with_state`."""
        found = self.step_with_state(
            frame_BND,
            action_BA,
            state_BS,
            cache,
            extrinsics_B6,
            shared=shared,
            keep_cache=keep_cache,
        )
        return found.frame_BND, found.cache

    def step_with_state(
        self,
        frame_BND: Tensor,
        action_BA: Tensor,
        state_BS: Tensor,
        cache: CacheList | None = None,
        extrinsics_B6: Tensor | None = None,
        *,
        shared: CacheList | None = None,
        keep_cache: bool = True,
    ) -> Step:
        """Predict the next frame, with keys and values of past frames from `cache`.

        A new frame attends to everything in the cache and to itself, so no mask is needed. The
        result equals `forward` on the whole history. Inputs shared by all samples (frame, state,
        cache) may have batch 1; the embedding and the first layer project them once.

        Args:
            frame_BND: Tokens of the newest frame.
            action_BA: Its action, which sets the batch size.
            state_BS: Its state.
            cache: Cache returned by the previous step.
            extrinsics_B6: Camera pose.
            shared: Cache of batch 1 for frames before those of `cache`; it is not copied per sample
                and not part of the returned cache.
            keep_cache: Whether to return the cache; False at the last step saves memory.

        Returns:
            The predicted tokens, the cache for the next step, and the predicted state.

        Raises:
            ShapeError: The past has as many frames as the predictor takes.
        """
        num_conditions = self._num_conditions(extrinsics_B6)
        size = num_conditions + self.num_patches
        past_frames = sum(c[0][0].shape[2] // size for c in (shared, cache) if c)
        self._require_positions(past_frames + 1)
        rope = self._rope(past_frames, past_frames + 1, num_conditions, frame_BND.device)
        pose_B16 = None if extrinsics_B6 is None else extrinsics_B6[:, None]
        parts = self._conditions(action_BA[:, None], state_BS[:, None], pose_B16)
        x = self._embed_patches(frame_BND)
        condition_B1P = F.silu(sum(parts[1:], parts[0])) if self.is_adaptive else None
        if condition_B1P is None:
            parts.append(x)
            x = torch.cat([part.expand(len(action_BA), -1, -1) for part in parts], dim=1)
        now: CacheList = []
        for i, block in enumerate(self.predictor_blocks):
            before = cache[i] if cache else None, shared[i] if shared else None
            if condition_B1P is None:
                x, kept = self._token_step(i, x, parts, rope, before)
            else:
                x, kept = block(x, condition_B1P, rope, None, *before)
            if keep_cache:
                now.append(kept)
        features_B1NP = self._features(x.unsqueeze(1))
        frame = self._frames(features_B1NP, frame_BND.unsqueeze(1)).squeeze(1)
        return Step(frame, now, self._state(features_B1NP))

    def _token_step(
        self,
        index: int,
        x: Tensor,
        parts: list[Tensor],
        rope: Tables,
        before: tuple[Cache | None, Cache | None],
    ) -> tuple[Tensor, Cache]:
        """Apply a block to the tokens `x` of a new frame, which consist of `parts`."""
        block = cast(Block, self.predictor_blocks[index])
        if index == 0 and any(len(part) < len(x) for part in parts):
            projected = _project_parts(block, parts, rope, len(x))
        else:
            projected = block.start(x, rope)
        is_last = index == len(self.predictor_blocks) - 1
        keep, (cache, shared) = self.num_patches if is_last else None, before
        return block.finish(x, projected, None, cache, keep, shared)


def _embed(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply an input layer in the data type of its weights."""
    out: Tensor = layer(x.to(cast(Tensor, layer.weight).dtype))
    return out


def _project_parts(block: Block, parts: list[Tensor], rope: Tables, batch: int) -> Projected:
    """Project a frame's tokens to queries, keys and values, and parts of batch 1 only once."""
    found, start = [], 0
    for part in parts:
        tables = (rope[0][start : start + part.shape[1]], rope[1][start : start + part.shape[1]])
        found.append(block.start(part, tables))
        start += part.shape[1]
    q, k, v = (
        torch.cat([x.expand(batch, -1, -1, -1) for x in same], dim=2)
        for same in zip(*found, strict=True)
    )
    return q, k, v
