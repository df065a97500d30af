"""Objective of action-conditioned predictors, with a trained or frozen encoder.

Shapes: B clips, T frames, V views, N tokens per frame, D width, S state, A action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.constants import POSE_DIM
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.object_head import ObjectHead
from worldmodel.models.rope import constant
from worldmodel.training.augmentation import random_colours, random_patterns
from worldmodel.training.batches import Batch, sent
from worldmodel.training.loss_options import (
    AugmentationConfig,
    HeadConfig,
    MemoryRolloutConfig,
    RegularizerConfig,
    RolloutConfig,
)
from worldmodel.training.losses import covariance_loss, prediction_loss, variance_loss
from worldmodel.training.rollouts import free_rollout_with_states, published_rollout_loss

OBJECT_CENTRE_M = (0.5, 0.0, 0.1)
"""Centre of the table's working area in the robot base frame [m]."""
OBJECT_SCALE_M = 0.1
"""Unit of the label head's targets [m]."""
DECODED_STATE = (0, 1, 2, 6)
"""State components that the state head decodes: position and closedness."""

MAIN_VIEW_ALONE = 0.25
"""Share of the clips of which the object head sees the main view alone, if there are several."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Weights of the loss terms, in the command line's option groups."""

    rollout: RolloutConfig = RolloutConfig()  # noqa: RUF009 - frozen
    regularizers: RegularizerConfig | None = None
    """Regularisers for a trained encoder; None if the encoder is frozen."""
    object_head: HeadConfig = HeadConfig()  # noqa: RUF009 - frozen
    augmentation: AugmentationConfig | None = None
    """Augmentation of the frames; None for none."""


def _head(width: int, out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, out))


class Objective(nn.Module):
    """Encoder (if it is trained or augmented), dynamics and training heads.

    `forward` maps a batch to its losses. Of the heads, only the object head is exported.
    """

    def __init__(
        self,
        dynamics: LatentDynamics,
        config: ObjectiveConfig,
        encoder: FrameEncoder | None = None,
        object_head: ObjectHead | None = None,
    ) -> None:
        """Compose the objective; without an encoder, batches must hold `features`."""
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.dynamics = dynamics
        p, terms = dynamics.config.predictor, config.regularizers
        width = p.encoder_dim * p.num_tokens
        is_pose = p.state_dim == POSE_DIM
        decoded = DECODED_STATE if is_pose else range(p.state_dim)
        self.register_buffer("decoded", torch.tensor(decoded), persistent=False)
        self.decoded: Tensor
        self.inverse_head = _head(2 * width, p.action_dim) if terms and terms.inverse else None
        self.state_head = nn.Linear(width, len(decoded)) if terms and terms.state else None
        self.label_head = _head(width, 3) if terms and terms.object else None
        self.object_head = object_head

    def encode(self, frames_BTHWC: Tensor) -> Tensor:
        """Encode each frame of a clip to tokens [B,T,N,D], with augmentation in training.

        Frames of several views are [B,T,V,H,W,3]. The colours of a clip change in all its views
        alike, since they stand for its light and cameras; its pattern is of each view by itself.
        """
        assert self.encoder is not None
        (batch, time), (height, width) = frames_BTHWC.shape[:2], frames_BTHWC.shape[-3:-1]
        views = frames_BTHWC.shape[2] if frames_BTHWC.ndim == 6 else 1
        colour, gain, c = None, None, self.config.augmentation
        if self.training and c and (c.augment or c.hue_deg):
            colour_B33 = random_colours(batch, c.augment, c.hue_deg)
            colour = sent(colour_B33, frames_BTHWC.device).repeat_interleave(time * views, 0)
        if self.training and c and c.pattern:
            device = frames_BTHWC.device
            gain_BHW = random_patterns(batch * views, c.pattern, height, width, device)
            gain_BVHW = gain_BHW.unflatten(0, (batch, views))
            gain = gain_BVHW.repeat_interleave(time, 0).flatten(0, 1)
        z = self.encoder.encode_frames(frames_BTHWC.flatten(0, -4), colour, gain)
        return z.reshape(batch, time, views * z.shape[1], z.shape[2])

    def forward(self, batch: Batch) -> Batch:
        """Return the loss and its parts for a batch of frames (or features), states and actions."""
        z_BTND = batch["features"] if "features" in batch else self.encode(batch["frames"])
        parts: dict[str, Tensor] = {}
        if self._free is None:
            out_BTND, total = self._published(z_BTND, batch, self.config.rollout, parts)
        else:
            out_BTND, total = self._imagine(z_BTND, batch, self._free, parts)
        if self.config.regularizers:
            terms = self.config.regularizers
            total = total + self._regularize(z_BTND.float(), out_BTND.float(), batch, terms, parts)
        if self.object_head is not None:
            total = total + self._locate(self.object_head, z_BTND, out_BTND, batch, parts)
        return {"loss": total, **parts}

    @property
    def _free(self) -> MemoryRolloutConfig | None:
        """Options of a free rollout; None if the rollout is the published one."""
        found = self.config.rollout
        if isinstance(found, MemoryRolloutConfig) and found.rollout_kind == "free":
            return found
        return None

    def _teacher_forced(self, z_BTND: Tensor, batch: Batch) -> Tensor:
        poses_BT6 = batch["extrinsics"][:, :-1] if "extrinsics" in batch else None
        states_BTS = batch["states"][:, :-1]
        return self.dynamics.predict(z_BTND[:, :-1], batch["actions"], states_BTS, poses_BT6)

    def _published(
        self, z_BTND: Tensor, batch: Batch, rollout: RolloutConfig, parts: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return teacher-forced outputs and the loss, with the published rollout."""
        out_BTND = self._teacher_forced(z_BTND, batch)
        parts["teacher_forcing"] = prediction_loss(out_BTND, z_BTND[:, 1:])
        weight = rollout.teacher_forcing if isinstance(rollout, MemoryRolloutConfig) else 1.0
        total = weight * parts["teacher_forcing"]
        if rollout.rollout and batch["actions"].shape[1] > 1:
            first_BND, steps = out_BTND[:, 0], rollout.rollout_steps
            parts["rollout"] = published_rollout_loss(
                self.dynamics, z_BTND, first_BND, batch, steps
            )
            total = total + rollout.rollout * parts["rollout"]
        return out_BTND, total

    def _imagine(
        self, z_BTND: Tensor, batch: Batch, rollout: MemoryRolloutConfig, parts: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return freely imagined frames and the loss on each of their steps."""
        actions_BKA = batch["actions"][:, : rollout.rollout_steps]
        start = z_BTND[:, 0], batch["states"][:, 0]
        restart = rollout.rollout_restart
        out_BKND, states_BKS = free_rollout_with_states(self.dynamics, *start, actions_BKA, restart)
        parts["rollout"] = prediction_loss(out_BKND, z_BTND[:, 1 : 1 + out_BKND.shape[1]])
        total = rollout.rollout * parts["rollout"]
        if rollout.predict_state:
            assert states_BKS is not None
            next_BKS = self.dynamics.scale_state(batch["states"][:, 1 : 1 + states_BKS.shape[1]])
            parts["next_state"] = F.smooth_l1_loss(states_BKS.float(), next_BKS, beta=0.1)
            total = total + rollout.predict_state * parts["next_state"]
        if rollout.teacher_forcing:
            forced_BTND = self._teacher_forced(z_BTND, batch)
            parts["teacher_forcing"] = prediction_loss(forced_BTND, z_BTND[:, 1:])
            total = total + rollout.teacher_forcing * parts["teacher_forcing"]
        return out_BKND, total

    def _locate(
        self,
        head: ObjectHead,
        z_BTND: Tensor,
        out_BKND: Tensor,
        batch: Batch,
        parts: dict[str, Tensor],
    ) -> Tensor:
        """Return the loss of the object head on encoded and imagined frames."""
        terms, steps = self.config.object_head, out_BKND.shape[1]
        if self.training:
            z_BTND, out_BKND = self._drop_views(z_BTND, out_BKND)
        total = z_BTND.new_zeros(())
        if terms.head_weight:
            labels_BTL4 = batch["labels"]
            exact = terms.head_label == "simulator"
            ahead_BKL4 = labels_BTL4[:, 1 : 1 + steps]
            parts["head"] = head.loss(z_BTND, labels_BTL4, yaws_known=exact)
            parts["head_imagined"] = head.loss(out_BKND, ahead_BKL4, yaws_known=exact)
            total = terms.head_weight * (parts["head"] + parts["head_imagined"])
        if terms.head_match:
            parts["head_match"] = head.match(out_BKND, z_BTND[:, 1 : 1 + steps])
            total = total + terms.head_match * parts["head_match"]
        return total

    def _drop_views(self, z_BTND: Tensor, out_BKND: Tensor) -> tuple[Tensor, Tensor]:
        """Replace all tokens but the main view's by zeros in some clips, for the object head.

        A goal shows the main view alone, and the head has to decode it too.
        """
        p = self.dynamics.config.predictor
        if p.num_views == 1:
            return z_BTND, out_BKND
        alone_B = sent(torch.rand(len(z_BTND)) < MAIN_VIEW_ALONE, z_BTND.device)
        is_main_N = torch.arange(p.num_tokens, device=z_BTND.device) < p.grid[0] * p.grid[1]
        keep_B1N1 = (is_main_N | ~alone_B[:, None])[:, None, :, None]
        return z_BTND * keep_B1N1, out_BKND * keep_B1N1

    def _regularize(
        self,
        z_BTND: Tensor,
        out_BTND: Tensor,
        batch: Batch,
        terms: RegularizerConfig,
        parts: dict[str, Tensor],
    ) -> Tensor:
        """Return the sum of the regularisers, and add each to `parts`."""
        flat_FD = z_BTND.flatten(0, 2)
        parts["variance"] = variance_loss(flat_FD)
        parts["covariance"] = covariance_loss(flat_FD)
        total = terms.variance * parts["variance"] + terms.covariance * parts["covariance"]
        z_BTK = z_BTND.flatten(2)
        if self.inverse_head is not None:
            pairs = torch.cat([z_BTK[:, :-1], z_BTK[:, 1:]], dim=-1)
            actions = self.dynamics.scale_action(batch["actions"])
            parts["inverse"] = F.smooth_l1_loss(self.inverse_head(pairs), actions)
            total = total + terms.inverse * parts["inverse"]
        if self.state_head is not None:
            state = self.dynamics.scale_state(batch["states"]).index_select(-1, self.decoded)
            parts["state"] = F.smooth_l1_loss(self.state_head(z_BTK), state, beta=0.1)
            total = total + terms.state * parts["state"]
        if self.label_head is not None:
            centre = constant(OBJECT_CENTRE_M, batch["objects"])
            place = (batch["objects"] - centre) / OBJECT_SCALE_M
            encoded = F.smooth_l1_loss(self.label_head(z_BTK), place, beta=0.1)
            imagined = self.label_head(out_BTND.flatten(2))
            predicted = F.smooth_l1_loss(imagined, place[:, 1 : 1 + out_BTND.shape[1]], beta=0.1)
            parts["object"], parts["object_predicted"] = encoded, predicted
            total = total + terms.object * (encoded + predicted)
        return total

    @torch.no_grad()
    def object_errors(self, z_BTND: Tensor, out_BTND: Tensor, objects_BT3: Tensor) -> Batch:
        """Return the label head's mean error [m] on encoded and predicted frames."""
        if self.label_head is None:
            return {}
        centre = constant(OBJECT_CENTRE_M, objects_BT3)
        errors = {}
        for name, z, place in (
            ("encoded", z_BTND, objects_BT3),
            ("predicted", out_BTND, objects_BT3[:, 1:]),
        ):
            decoded = self.label_head(z.flatten(2)) * OBJECT_SCALE_M + centre
            errors[f"val_object_{name}_m"] = (decoded - place).norm(dim=-1).mean()
        return errors
