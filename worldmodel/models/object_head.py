"""Object head: decode the poses of a few objects from the tokens of one frame.

The head has M slots, each a position, a yaw and a score. It is trained on frames in which the pose
of one object is known (`worldmodel.data.hindsight`), as a mixture: the slot nearest to the label
learns it, and the scores learn which slot that is. A second object that is known in other frames
takes another slot.

Shapes: B frames, N tokens, D width, M slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.models.config import ObjectHeadConfig
from worldmodel.models.precision import Float32Module

YAW_WEIGHT = 0.3
"""Weight of a yaw error against a position error of one `scale_m` in the loss."""
TEMPERATURE = 0.05
"""Loss difference at which the better of two slots takes most of the gradient."""


@dataclass(frozen=True)
class ObjectPose:
    """Decoded poses of the M slots of B frames."""

    position_m: Tensor
    """Centre of the object [B, M, 3] in the robot base frame [m]."""
    yaw_rad: Tensor
    """Rotation [B, M] about the vertical, modulo pi, within +-pi/2 [rad]."""
    yaw_certainty: Tensor
    """Length [B, M] of the decoded (cos 2 yaw, sin 2 yaw), 0 to 1: near 0 for objects whose yaw
    cannot be told, such as cylinders."""
    presence: Tensor
    """Probability [B, M] of the slot over that of the frame's most probable slot, 0 to 1."""


class ObjectHead(Float32Module):
    """MLP from the tokens of a frame to object slots; see the module's docstring.

    It stays float32 when its world model is converted to bfloat16: its outputs are poses.
    """

    def __init__(self, config: ObjectHeadConfig) -> None:
        """Build a head with random weights."""
        super().__init__()
        self.config = c = config
        self.net = nn.Sequential(
            nn.Linear(c.num_tokens * c.token_dim, c.hidden_dim),
            nn.GELU(),
            nn.Linear(c.hidden_dim, c.hidden_dim),
            nn.GELU(),
            nn.Linear(c.hidden_dim, c.num_slots * 6),
        )

    def forward(self, z_BND: Tensor) -> Tensor:
        """Return [..., M, 6] for tokens [..., N, D].

        The components are x, y, z in units of `scale_m` from `centre_m`, cos 2 yaw, sin 2 yaw, and
        the slot's score before the softmax.
        """
        weights: Tensor = self.net[0].weight  # type: ignore[assignment]
        out: Tensor = self.net(z_BND.flatten(-2).to(weights.dtype))
        return out.float().unflatten(-1, (self.config.num_slots, 6))

    @torch.no_grad()
    def locate(self, z_BND: Tensor) -> ObjectPose:
        """Decode the object poses of frames."""
        out_BM6 = self(z_BND)
        centre = out_BM6.new_tensor(self.config.centre_m)
        turn_BM2 = out_BM6[..., 3:5]
        presence_BM = out_BM6[..., 5].softmax(-1)
        return ObjectPose(
            position_m=out_BM6[..., :3] * self.config.scale_m + centre,
            yaw_rad=0.5 * torch.atan2(turn_BM2[..., 1], turn_BM2[..., 0]),
            yaw_certainty=turn_BM2.norm(dim=-1).clamp(max=1.0),
            presence=presence_BM / presence_BM.amax(-1, keepdim=True),
        )

    def loss(
        self,
        z_BND: Tensor,
        position_B3: Tensor,
        yaw_B: Tensor,
        has_position_B: Tensor,
        has_yaw_B: Tensor,
    ) -> Tensor:
        """Return the mixture loss on labelled frames; leading axes may be several.

        Args:
            z_BND: tokens [..., N, D].
            position_B3: position of one object [..., 3, m]; ignored where it is not known.
            yaw_B: its yaw [..., rad].
            has_position_B: bool [...], whether the position is known.
            has_yaw_B: bool [...], whether the yaw is known too.

        Returns:
            Mean over all frames with a position; 0 if there is none.
        """
        out_BM6 = self(z_BND)
        centre = position_B3.new_tensor(self.config.centre_m)
        place_B3 = (position_B3 - centre) / self.config.scale_m
        turn_B2 = torch.stack([(2 * yaw_B).cos(), (2 * yaw_B).sin()], -1)
        # NaN labels would make the gradient NaN even where the loss is masked
        place_B13 = torch.where(has_position_B.unsqueeze(-1), place_B3, 0.0).unsqueeze(-2)
        turn_B12 = torch.where(has_yaw_B.unsqueeze(-1), turn_B2, 0.0).unsqueeze(-2)
        error_BM = _smooth(out_BM6[..., :3], place_B13)
        turned_BM = _smooth(out_BM6[..., 3:5], turn_B12)
        error_BM = error_BM + YAW_WEIGHT * turned_BM * has_yaw_B.unsqueeze(-1)
        log_share_BM = out_BM6[..., 5].log_softmax(-1)
        loss_B = -TEMPERATURE * (log_share_BM - error_BM / TEMPERATURE).logsumexp(-1)
        known_B = has_position_B.to(loss_B.dtype)
        return torch.where(has_position_B, loss_B, 0.0).sum() / known_B.sum().clamp(min=1.0)

    def match(self, imagined_BND: Tensor, encoded_BND: Tensor) -> Tensor:
        """Return the difference of the poses decoded from imagined and from encoded tokens.

        The encoded frame is the target and receives no gradient; its slots count by their
        probability.
        """
        out_BM6 = self(imagined_BND)
        with torch.no_grad():
            target_BM6 = self(encoded_BND)
            share_BM = target_BM6[..., 5].softmax(-1)
        error_BM = _smooth(out_BM6[..., :3], target_BM6[..., :3])
        error_BM = error_BM + YAW_WEIGHT * _smooth(out_BM6[..., 3:5], target_BM6[..., 3:5])
        return (share_BM * error_BM).sum(-1).mean()


def _smooth(out: Tensor, target: Tensor) -> Tensor:
    """Return the smooth L1 error, averaged over the last axis."""
    out, target = torch.broadcast_tensors(out, target)
    return F.smooth_l1_loss(out, target, beta=0.1, reduction="none").mean(-1)
