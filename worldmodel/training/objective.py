"""What joint training minimises: prediction, no collapse, and heads that keep the latent useful.

Shapes: B clips, T frames, N tokens a frame, D width, S state (7), A action (7).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.world_model import WorldModel
from worldmodel.training.augmentation import random_colours, random_patterns
from worldmodel.training.losses import covariance_loss, prediction_loss, variance_loss


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Weights of the parts; 0 leaves a part out."""

    rollout_steps: int = 2
    """Imagined steps of the rollout loss (published: 2)."""
    rollout: float = 1.0
    variance: float = 1.0
    covariance: float = 0.05
    inverse: float = 0.5
    """Decode the action from two neighbouring latents."""
    state: float = 0.5
    """Decode the robot's own state from the latent."""
    object: float = 0.0
    """Decode the object's position (a SIMULATOR LABEL) from encoded and predicted latents."""
    augment: float = 0.1
    """Spread of each clip's random brightness and colour gain."""
    hue_deg: float = 0.0
    """Each clip's colours are turned about the grey axis by up to this [deg]."""
    pattern: float = 0.0
    """A still pattern over each clip changes its brightness by up to this share."""


def _head(width: int, out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, out))


class Objective(nn.Module):
    """The world model and its training heads; the heads are thrown away afterwards."""

    def __init__(
        self, world: WorldModel | LatentDynamics, config: ObjectiveConfig, *, joint: bool
    ) -> None:
        super().__init__()
        self.world = world
        self.config = config
        self.joint = joint
        predictor = world.config.predictor
        width = predictor.encoder_dim * predictor.grid[0] * predictor.grid[1]
        self.inverse_head = _head(2 * width, 7) if config.inverse and joint else None
        self.state_head = nn.Linear(width, 4) if config.state and joint else None
        self.object_head = _head(width, 3) if config.object and joint else None

    def encode(self, frames_BTHWC: Tensor) -> Tensor:
        """Tokens [B,T,N,D] of a clip, each frame encoded alone; augmented when training."""
        batch, time = frames_BTHWC.shape[:2]
        colour, gain, c = None, None, self.config
        if self.training and (c.augment or c.hue_deg):
            colour_B33 = random_colours(batch, c.augment, c.hue_deg)
            colour = colour_B33.to(frames_BTHWC.device).repeat_interleave(time, 0)
        if self.training and c.pattern:
            gain_BHW = random_patterns(batch, c.pattern, *frames_BTHWC.shape[2:4])
            gain = gain_BHW.to(frames_BTHWC.device).repeat_interleave(time, 0)
        assert isinstance(self.world, WorldModel)  # a latent dynamics is trained on features
        z = self.world.encode_frames(frames_BTHWC.flatten(0, 1), colour, gain)
        return z.reshape(batch, time, *z.shape[1:])

    def rollout_loss(self, z_BTND: Tensor, first_BND: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Error of frames imagined from the model's own outputs.

        `first_BND` is the first teacher-forced output: it, not a later one, enters the rollout.
        """
        steps = min(self.config.rollout_steps, batch["actions"].shape[1])
        frames, loss = [z_BTND[:, 0], first_BND], z_BTND.new_zeros(())
        for k in range(1, steps):
            context = torch.stack(frames, dim=1)
            out = self.world.predict(
                context,
                batch["actions"][:, : k + 1],
                batch["states"][:, : k + 1],
                batch["extrinsics"][:, : k + 1] if "extrinsics" in batch else None,
            )
            frames.append(out[:, -1])
            loss = loss + prediction_loss(out[:, -1], z_BTND[:, k + 1])
        return loss / max(1, steps - 1)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss and its parts for a batch of frames (or features), states and actions."""
        z_BTND = batch["features"] if "features" in batch else self.encode(batch["frames"])
        actions_BTA, states_BTS = batch["actions"], batch["states"]
        poses_BT6 = batch["extrinsics"][:, :-1] if "extrinsics" in batch else None
        out_BTND = self.world.predict(z_BTND[:, :-1], actions_BTA, states_BTS[:, :-1], poses_BT6)
        parts = {"teacher_forcing": prediction_loss(out_BTND, z_BTND[:, 1:])}
        total = parts["teacher_forcing"]
        if self.config.rollout and actions_BTA.shape[1] > 1:
            parts["rollout"] = self.rollout_loss(z_BTND, out_BTND[:, 0], batch)
            total = total + self.config.rollout * parts["rollout"]
        if self.joint:
            total = total + self._joint_parts(z_BTND.float(), out_BTND.float(), batch, parts)
        return {"loss": total, **parts}

    def _joint_parts(
        self, z_BTND: Tensor, out_BTND: Tensor, batch: dict[str, Tensor], parts: dict[str, Tensor]
    ) -> Tensor:
        config = self.config
        flat_FD = z_BTND.flatten(0, 2)
        parts["variance"] = variance_loss(flat_FD)
        parts["covariance"] = covariance_loss(flat_FD)
        total = config.variance * parts["variance"] + config.covariance * parts["covariance"]
        z_BTK = z_BTND.flatten(2)
        if self.inverse_head is not None:
            pairs = torch.cat([z_BTK[:, :-1], z_BTK[:, 1:]], dim=-1)
            wanted = batch["actions"] / self.world.action_scale
            parts["inverse"] = F.smooth_l1_loss(self.inverse_head(pairs), wanted)
            total = total + config.inverse * parts["inverse"]
        if self.state_head is not None:
            wanted = self.world.scale_state(batch["states"])[..., [0, 1, 2, 6]]
            parts["state"] = F.smooth_l1_loss(self.state_head(z_BTK), wanted, beta=0.1)
            total = total + config.state * parts["state"]
        if self.object_head is not None:
            centre = batch["objects"].new_tensor(OBJECT_CENTRE_M)
            wanted = (batch["objects"] - centre) / OBJECT_SCALE_M
            encoded = F.smooth_l1_loss(self.object_head(z_BTK), wanted, beta=0.1)
            imagined = self.object_head(out_BTND.flatten(2))
            predicted = F.smooth_l1_loss(imagined, wanted[:, 1:], beta=0.1)
            parts["object"], parts["object_predicted"] = encoded, predicted
            total = total + config.object * (encoded + predicted)
        return total


OBJECT_CENTRE_M = (0.5, 0.0, 0.1)
"""Where the table's working area is, in the robot base frame."""
OBJECT_SCALE_M = 0.1
"""Unit of the object head's targets."""
