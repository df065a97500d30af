"""Latent dynamics: predict the effect of actions on the tokens of a frame.

Shapes: B samples, T frames, N tokens per frame, D width, K horizon, S state, A action.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from worldmodel.actions import apply_action
from worldmodel.constants import GRIPPER_DEAD_BAND, POSE_DIM, POSITION_DIM
from worldmodel.errors import ConfigError
from worldmodel.models.ac_predictor import ActionConditionedPredictor, CacheList
from worldmodel.models.frame_encoder import normalise
from worldmodel.models.model_config import DynamicsConfig
from worldmodel.models.precision import Float32Buffers
from worldmodel.specs import ActionSpec


def _commanded(closed_B1: Tensor, command_B1: Tensor) -> Tensor:
    """Return the closedness after a command: -1 open, 0 keep, 1 close, with a dead band."""
    opened_B1 = torch.where(command_B1 < -GRIPPER_DEAD_BAND, 0.0, closed_B1)
    return torch.where(command_B1 > GRIPPER_DEAD_BAND, 1.0, opened_B1)


class LatentDynamics(Float32Buffers):
    """An action-conditioned predictor with state and action scaling, without an encoder.

    Source: V-JEPA 2 (arXiv 2506.09985), sec. 3.
    """

    def __init__(
        self, config: DynamicsConfig, predictor: ActionConditionedPredictor | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.predictor = predictor or ActionConditionedPredictor(config.predictor)
        p, s = config.predictor, config.scaling
        self._register("state_scale", s.state_scale, p.state_dim, 1.0)
        self._register("state_offset", s.state_offset, p.state_dim, 0.0)
        self._register("action_scale", s.action_scale, p.action_dim, 1.0)
        self.state_scale: Tensor
        self.state_offset: Tensor
        self.action_scale: Tensor

    def _register(self, name: str, values: Sequence[float], size: int, default: float) -> None:
        value = torch.tensor(values or (default,) * size, dtype=torch.float32)
        self.register_buffer(name, value, persistent=False)

    @property
    def action_spec(self) -> ActionSpec:
        """Action conventions: size, gripper, period and limits."""
        return self.config.action

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the predictor's weights."""
        return self.predictor.predictor_norm.weight.dtype

    @property
    def outer_dtype(self) -> torch.dtype:
        """Data type of tokens, states and actions outside the network: float32 or a wider one."""
        return torch.promote_types(self.dtype, torch.float32)

    def scale_state(self, state_S: Tensor) -> Tensor:
        """Convert states to the units that the predictor was trained on."""
        change_S = state_S - self.state_offset
        if self.config.scaling.wrap_angles:
            angles = torch.remainder(change_S[..., 3:6] + torch.pi, 2 * torch.pi) - torch.pi
            change_S = torch.cat([change_S[..., :3], angles, change_S[..., 6:]], dim=-1)
        return change_S / self.state_scale

    def scale_action(self, action_A: Tensor) -> Tensor:
        """Convert actions to the units that the predictor was trained on."""
        return action_A / self.action_scale

    def predict(
        self,
        frames_BTND: Tensor,
        actions_BTA: Tensor,
        states_BTS: Tensor,
        extrinsics_BT6: Tensor | None = None,
    ) -> Tensor:
        """Predict the next frame's tokens for every input frame (teacher forcing).

        Args:
            frames_BTND: Tokens of T frames.
            actions_BTA: The action taken at each frame.
            states_BTS: Robot state at each frame.
            extrinsics_BT6: Camera pose, for a predictor trained with it.

        Returns:
            Tokens [B, T, N, D], normalised according to the config.
        """
        batch, time, tokens, width = frames_BTND.shape
        out = self.predictor(
            frames_BTND.reshape(batch, time * tokens, width),
            self.scale_action(actions_BTA),
            self.scale_state(states_BTS),
            extrinsics_BT6,
        )
        out = out.reshape(batch, time, tokens, width)
        return normalise(out) if self.config.scaling.normalise_tokens else out

    def next_state(self, state_BS: Tensor, action_BA: Tensor) -> Tensor:
        """Compute the state after an action.

        A DROID pose [7] is translated and rotated, and a gripper command beyond the dead band sets
        the closedness to 0 or 1; a pose of four numbers has no rotation. To another state of the
        action's length, the action is added. Any other state stays unchanged, which is valid only
        for a predictor without state.

        Raises:
            ConfigError: The predictor takes a state to which none of these rules applies.
        """
        p = self.config.predictor
        if (p.state_dim, p.action_dim) == (POSE_DIM, POSE_DIM):
            return self._next_pose(state_BS, action_BA)
        if (p.state_dim, p.action_dim) == (POSITION_DIM, POSITION_DIM):
            return self._next_position(state_BS, action_BA)
        if p.state_dim == p.action_dim:
            return state_BS + action_BA
        if p.use_state:
            raise ConfigError(
                f"state_dim={p.state_dim} and action_dim={p.action_dim}: no rule says what the "
                "state becomes after an action; use equal sizes, or use_state=false"
            )
        return state_BS.expand(len(action_BA), -1)

    def _next_pose(self, state_BS: Tensor, action_BA: Tensor) -> Tensor:
        if self.action_spec.gripper == "difference":
            return apply_action(state_BS, action_BA)
        command_B1 = action_BA[..., 6:]
        moved = apply_action(state_BS, torch.cat([action_BA[..., :6], 0 * command_B1], -1))
        return torch.cat([moved[..., :6], _commanded(moved[..., 6:], command_B1)], -1)

    def _next_position(self, state_BS: Tensor, action_BA: Tensor) -> Tensor:
        """Return x, y, z and closedness after an action without rotation."""
        closed_B1, grip_B1 = state_BS[..., 3:].expand(len(action_BA), 1), action_BA[..., 3:]
        if self.action_spec.gripper == "difference":
            after_B1 = (closed_B1 + grip_B1).clamp(0.0, 1.0)
        else:
            after_B1 = _commanded(closed_B1, grip_B1)
        return torch.cat([state_BS[..., :3] + action_BA[..., :3], after_B1], -1)

    def remember(self, frames_1TND: Tensor, states_1TS: Tensor, actions_1TA: Tensor) -> CacheList:
        """Compute keys and values of T frames before the current one, the `past` of `unroll`."""
        cache: CacheList | None = None
        for t in range(frames_1TND.shape[1]):
            _, cache = self.predictor.step(
                frames_1TND[:, t].to(self.outer_dtype),
                self.scale_action(actions_1TA[:, t]).to(self.outer_dtype),
                self.scale_state(states_1TS[:, t]).to(self.outer_dtype),
                cache,
            )
        return cache or []

    def unroll(
        self,
        z_BND: Tensor,
        state_BS: Tensor,
        actions_BKA: Tensor,
        past: CacheList | None = None,
        *,
        extrinsics_B6: Tensor | None = None,
    ) -> Tensor:
        """Predict the outcome of actions step by step, caching keys and values of past frames.

        Args:
            z_BND: Tokens of the current frame; batch 1 is shared by all samples.
            state_BS: Current state; batch 1 is shared by all samples.
            actions_BKA: K actions for each of B samples.
            past: Frames before the current one, from `remember`; shared by all samples.
            extrinsics_B6: Constant camera pose, for a predictor trained with it.

        Returns:
            Predicted tokens [B, K, N, D] in the data type of `z_BND`, equal to recomputing the
            whole history at each step.

        Raises:
            ShapeError: Past frames and horizon exceed the frames that the predictor takes.
        """
        out_BKND, _ = self.unroll_with_states(
            z_BND, state_BS, actions_BKA, past, extrinsics_B6=extrinsics_B6
        )
        return out_BKND

    def unroll_with_states(
        self,
        z_BND: Tensor,
        state_BS: Tensor,
        actions_BKA: Tensor,
        past: CacheList | None = None,
        *,
        extrinsics_B6: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute `unroll`, and the predicted states [B, K, S] in the units of `scale_state`.

        The states are None if the predictor predicts none. They have no effect on the frames.
        """
        batch, horizon = actions_BKA.shape[:2]
        frame = z_BND if z_BND.shape[0] in (1, batch) else z_BND[:1]
        state = state_BS if state_BS.shape[0] in (1, batch) else state_BS[:1]
        cache, out, states = None, [], []
        for k in range(horizon):
            action = actions_BKA[:, k]
            frame, cache, predicted = self.predictor.step_with_state(
                frame.to(self.outer_dtype),
                self.scale_action(action).to(self.outer_dtype),
                self.scale_state(state).to(self.outer_dtype),
                cache,
                extrinsics_B6,
                shared=past,
                keep_cache=k + 1 < horizon,
            )
            if self.config.scaling.normalise_tokens:
                frame = normalise(frame)
            out.append(frame)
            if predicted is not None:
                states.append(predicted)
            state = self.next_state(state, action)
        states_BKS = torch.stack(states, dim=1) if states else None
        return torch.stack(out, dim=1).to(z_BND.dtype), states_BKS

    def bytes_per_sample(self, horizon: int, itemsize: int = 4) -> int:
        """Estimate the memory that `unroll` takes per sample [bytes].

        It counts keys, values, one layer's activations and the predicted tokens.

        Args:
            horizon: Number of predicted steps.
            itemsize: Bytes per number.
        """
        c = self.config.predictor
        tokens = c.num_tokens + 3
        cached = (horizon - 1) * c.depth * 2 * tokens * c.embed_dim
        layer = tokens * c.embed_dim * (8 + c.mlp_ratio) + 2 * c.num_heads * tokens**2 * horizon
        imagined = 2 * horizon * tokens * c.encoder_dim
        return int(itemsize * (cached + layer + imagined))
