"""Objective of action-conditioned predictors, with a trained or frozen encoder.

Shapes: B clips, T frames, N tokens per frame, D width, S state, A action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.constants import POSE_DIM
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.training.augmentation import random_colours, random_patterns
from worldmodel.training.batches import Batch
from worldmodel.training.losses import covariance_loss, prediction_loss, variance_loss
from worldmodel.training.option_groups import AugmentationConfig, RegularizerConfig, RolloutConfig

OBJECT_CENTRE_M = (0.5, 0.0, 0.1)
"""Centre of the table's working area in the robot base frame [m]."""
OBJECT_SCALE_M = 0.1
"""Unit of the object head's targets [m]."""
DECODED_STATE = (0, 1, 2, 6)
"""State components that the state head decodes: position and closedness."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Weights of the loss terms, in the command line's option groups."""

    rollout: RolloutConfig = RolloutConfig()  # noqa: RUF009 - frozen
    regularizers: RegularizerConfig | None = None
    """Regularisers for a trained encoder; None if the encoder is frozen."""
    augmentation: AugmentationConfig | None = None
    """Augmentation of the frames; None for none."""


def _head(width: int, out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, out))


class Objective(nn.Module):
    """Encoder (if it is trained or augmented), dynamics and training heads.

    `forward` maps a batch to its losses. The heads are not exported.
    """

    def __init__(
        self, dynamics: LatentDynamics, config: ObjectiveConfig, encoder: FrameEncoder | None = None
    ) -> None:
        """Compose the objective; without an encoder, batches must hold `features`."""
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.dynamics = dynamics
        p, terms = dynamics.config.predictor, config.regularizers
        width = p.encoder_dim * p.grid[0] * p.grid[1]
        is_pose = p.state_dim == POSE_DIM
        self.decoded = list(DECODED_STATE) if is_pose else list(range(p.state_dim))
        self.inverse_head = _head(2 * width, p.action_dim) if terms and terms.inverse else None
        self.state_head = nn.Linear(width, len(self.decoded)) if terms and terms.state else None
        self.object_head = _head(width, 3) if terms and terms.object else None

    def encode(self, frames_BTHWC: Tensor) -> Tensor:
        """Encode each frame of a clip to tokens [B,T,N,D], with augmentation in training."""
        assert self.encoder is not None
        batch, time = frames_BTHWC.shape[:2]
        colour, gain, c = None, None, self.config.augmentation
        if self.training and c and (c.augment or c.hue_deg):
            colour_B33 = random_colours(batch, c.augment, c.hue_deg)
            colour = colour_B33.to(frames_BTHWC.device).repeat_interleave(time, 0)
        if self.training and c and c.pattern:
            gain_BHW = random_patterns(batch, c.pattern, *frames_BTHWC.shape[2:4])
            gain = gain_BHW.to(frames_BTHWC.device).repeat_interleave(time, 0)
        z = self.encoder.encode_frames(frames_BTHWC.flatten(0, 1), colour, gain)
        return z.reshape(batch, time, *z.shape[1:])

    def rollout_loss(self, z_BTND: Tensor, first_BND: Tensor, batch: Batch) -> Tensor:
        """Return the error of frames predicted from the model's own outputs.

        The rollout starts from `first_BND`, the first teacher-forced output.
        """
        steps = min(self.config.rollout.rollout_steps, batch["actions"].shape[1])
        frames, loss = [z_BTND[:, 0], first_BND], z_BTND.new_zeros(())
        for k in range(1, steps):
            context = torch.stack(frames, dim=1)
            out = self.dynamics.predict(
                context,
                batch["actions"][:, : k + 1],
                batch["states"][:, : k + 1],
                batch["extrinsics"][:, : k + 1] if "extrinsics" in batch else None,
            )
            frames.append(out[:, -1])
            loss = loss + prediction_loss(out[:, -1], z_BTND[:, k + 1])
        return loss / max(1, steps - 1)

    def forward(self, batch: Batch) -> Batch:
        """Return the loss and its parts for a batch of frames (or features), states and actions."""
        z_BTND = batch["features"] if "features" in batch else self.encode(batch["frames"])
        actions_BTA, states_BTS = batch["actions"], batch["states"]
        poses_BT6 = batch["extrinsics"][:, :-1] if "extrinsics" in batch else None
        out_BTND = self.dynamics.predict(z_BTND[:, :-1], actions_BTA, states_BTS[:, :-1], poses_BT6)
        parts = {"teacher_forcing": prediction_loss(out_BTND, z_BTND[:, 1:])}
        total = parts["teacher_forcing"]
        if self.config.rollout.rollout and actions_BTA.shape[1] > 1:
            parts["rollout"] = self.rollout_loss(z_BTND, out_BTND[:, 0], batch)
            total = total + self.config.rollout.rollout * parts["rollout"]
        if self.config.regularizers:
            terms = self.config.regularizers
            total = total + self._regularize(z_BTND.float(), out_BTND.float(), batch, terms, parts)
        return {"loss": total, **parts}

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
            state = self.dynamics.scale_state(batch["states"])[..., self.decoded]
            parts["state"] = F.smooth_l1_loss(self.state_head(z_BTK), state, beta=0.1)
            total = total + terms.state * parts["state"]
        if self.object_head is not None:
            centre = batch["objects"].new_tensor(OBJECT_CENTRE_M)
            place = (batch["objects"] - centre) / OBJECT_SCALE_M
            encoded = F.smooth_l1_loss(self.object_head(z_BTK), place, beta=0.1)
            imagined = self.object_head(out_BTND.flatten(2))
            predicted = F.smooth_l1_loss(imagined, place[:, 1:], beta=0.1)
            parts["object"], parts["object_predicted"] = encoded, predicted
            total = total + terms.object * (encoded + predicted)
        return total

    @torch.no_grad()
    def object_errors(self, z_BTND: Tensor, out_BTND: Tensor, objects_BT3: Tensor) -> Batch:
        """Return the object head's mean error [m] on encoded and predicted frames."""
        if self.object_head is None:
            return {}
        centre = objects_BT3.new_tensor(OBJECT_CENTRE_M)
        errors = {}
        for name, z, place in (
            ("encoded", z_BTND, objects_BT3),
            ("predicted", out_BTND, objects_BT3[:, 1:]),
        ):
            decoded = self.object_head(z.flatten(2)) * OBJECT_SCALE_M + centre
            errors[f"val_object_{name}_m"] = (decoded - place).norm(dim=-1).mean()
        return errors
