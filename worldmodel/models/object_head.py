"""Object head: decode the poses of a few objects from the tokens of one frame.

The head has M slots, each a position, a yaw and a score. It is trained as a mixture over the
assignments of the known objects of a frame to distinct slots: the slots of the likeliest assignment
learn the poses, and the scores learn which slots those are. Positions and scores alone decide which
slot an object takes. Where only one object of a frame is known (`worldmodel.data.hindsight`), the
nearest slot learns it, and a second object that is known in other frames takes another slot.

Shapes: B frames, N tokens, D width, M slots, L labelled objects, P assignments.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.models.config import ObjectHeadConfig
from worldmodel.models.precision import Float32Module
from worldmodel.models.rope import constant

YAW_WEIGHT = 1.0
"""Weight of a yaw error against a position error of one `scale_m` in the loss."""
TEMPERATURE = 0.05
"""Loss difference at which the better of two assignments takes most of the gradient."""


@dataclass(frozen=True)
class ObjectPose:
    """Decoded poses of the M slots of B frames."""

    position_m: Tensor
    """Centre of the object [B, M, 3] in the robot base frame [m]."""
    yaw_rad: Tensor
    """Rotation [B, M] about the vertical, modulo pi, within +-pi/2 [rad]."""
    yaw_certainty: Tensor
    """Length [B, M] of the decoded (cos 2 yaw, sin 2 yaw), 0 to 1: near 0 for objects whose yaw
    is not defined, such as cylinders."""
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
        """Return [..., M, 6] for tokens [..., N, D]; views that are not there count as zeros.

        The components are x, y, z in units of `scale_m` from `centre_m`, cos 2 yaw, sin 2 yaw, and
        the slot's score before the softmax.
        """
        missing = self.config.num_tokens - z_BND.shape[-2]
        if missing > 0:  # a goal may show the first views alone
            z_BND = F.pad(z_BND, (0, 0, 0, missing))
        first = cast(nn.Linear, self.net[0])
        out: Tensor = self.net(z_BND.flatten(-2).to(first.weight.dtype))
        return out.float().unflatten(-1, (self.config.num_slots, 6))

    @torch.no_grad()
    def locate(self, z_BND: Tensor) -> ObjectPose:
        """Decode the object poses of frames."""
        out_BM6 = self(z_BND)
        centre = constant(self.config.centre_m, out_BM6)
        turn_BM2 = out_BM6[..., 3:5]
        presence_BM = out_BM6[..., 5].softmax(-1)
        return ObjectPose(
            position_m=out_BM6[..., :3] * self.config.scale_m + centre,
            yaw_rad=0.5 * torch.atan2(turn_BM2[..., 1], turn_BM2[..., 0]),
            yaw_certainty=turn_BM2.norm(dim=-1).clamp(max=1.0),
            presence=presence_BM / presence_BM.amax(-1, keepdim=True),
        )

    def loss(self, z_BND: Tensor, poses_BL4: Tensor, *, yaws_known: bool = False) -> Tensor:
        """Return the mixture loss on labelled frames; leading axes may be several.

        The order of the objects of a frame has no effect. Of more known objects than slots, the
        first ones count.

        Args:
            z_BND: Tokens [..., N, D].
            poses_BL4: x, y, z [m] and yaw [rad] of objects [..., L, 4]. An object without a
                position is ignored; one without a yaw teaches the position alone.
            yaws_known: Whether an object without a yaw is one that looks the same after a quarter
                turn. It then teaches a certainty of 0.

        Returns:
            Mean over all known objects; 0 if there is none.
        """
        out_BM6 = self(z_BND)
        slots = self.config.num_slots
        poses_BL4 = _known_first(poses_BL4)[..., :slots, :]
        known_BL, error_BLM, turned_BLM = self._errors(out_BM6, poses_BL4, yaws_known)
        log_share_BM = out_BM6[..., 5].log_softmax(-1)
        cost_BLM = (error_BLM - TEMPERATURE * log_share_BM.unsqueeze(-2)) * known_BL.unsqueeze(-1)
        labels = poses_BL4.shape[-2]
        which_PL = _assignments(slots, labels, cost_BLM.device)
        cost_BP = cost_BLM[..., torch.arange(labels, device=which_PL.device), which_PL].sum(-1)
        # assignments that differ only in the slots of unknown objects count once
        count_B = known_BL.sum(-1)
        again_B = torch.lgamma(slots - count_B + 1.0) - math.lgamma(slots - labels + 1.0)
        loss_B = TEMPERATURE * (again_B - (-cost_BP / TEMPERATURE).logsumexp(-1))
        takes_PLM = F.one_hot(which_PL, slots).to(cost_BP.dtype)
        likely_BP = (-cost_BP / TEMPERATURE).softmax(-1).detach()
        takes_BLM = torch.einsum("...p,plm->...lm", likely_BP, takes_PLM)
        loss_B = loss_B + YAW_WEIGHT * (takes_BLM * turned_BLM).sum((-1, -2))
        return torch.where(count_B > 0, loss_B, 0.0).sum() / count_B.sum().clamp(min=1.0)

    def _errors(
        self, out_BM6: Tensor, poses_BL4: Tensor, yaws_known: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return whether each object is known [..., L], and its errors by slot [..., L, M].

        The errors are those of the position, and of the yaw (0 where it is not known).
        """
        known_BL, has_yaw_BL = ~poses_BL4[..., :3].isnan().any(-1), ~poses_BL4[..., 3].isnan()
        has_yaw_BL = has_yaw_BL & known_BL
        centre = constant(self.config.centre_m, poses_BL4)
        place_BL3 = (poses_BL4[..., :3] - centre) / self.config.scale_m
        turn_BL2 = torch.stack([(2 * poses_BL4[..., 3]).cos(), (2 * poses_BL4[..., 3]).sin()], -1)
        # NaN labels would make the gradient NaN even where the loss is masked
        place_BL13 = torch.where(known_BL.unsqueeze(-1), place_BL3, 0.0).unsqueeze(-2)
        turn_BL12 = torch.where(has_yaw_BL.unsqueeze(-1), turn_BL2, 0.0).unsqueeze(-2)
        out_B1M6 = out_BM6.unsqueeze(-3)
        error_BLM = _smooth(out_B1M6[..., :3], place_BL13)
        turned_BLM = _squared(out_B1M6[..., 3:5], turn_BL12)
        counts_BL = known_BL if yaws_known else has_yaw_BL
        return known_BL, error_BLM, turned_BLM * counts_BL.unsqueeze(-1)

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
        error_BM = error_BM + YAW_WEIGHT * _squared(out_BM6[..., 3:5], target_BM6[..., 3:5])
        return (share_BM * error_BM).sum(-1).mean()


@functools.cache
def _assignments(slots: int, labels: int, device: torch.device) -> Tensor:
    """Return the slots [P, labels] of every assignment of labels to slots, kept on a device."""
    return torch.tensor(list(itertools.permutations(range(slots), labels)), device=device)


def _smooth(out: Tensor, target: Tensor) -> Tensor:
    """Return the smooth L1 error, averaged over the last axis."""
    out, target = torch.broadcast_tensors(out, target)
    return F.smooth_l1_loss(out, target, beta=0.1, reduction="none").mean(-1)


def _squared(out: Tensor, target: Tensor) -> Tensor:
    """Return the squared error, averaged over the last axis.

    Its minimum is the mean of the directions, whose length tells how certain they are. That of an
    absolute error is the median, which is the most frequent yaw while the yaw is hard to see.
    """
    return (out - target).square().mean(-1)


def _known_first(poses_BL4: Tensor) -> Tensor:
    """Sort the objects of each frame: those with a position first, in their order."""
    unknown_BL = poses_BL4[..., :3].isnan().any(-1).to(torch.uint8)
    order_BL = unknown_BL.argsort(dim=-1, stable=True)
    return poses_BL4.gather(-2, order_BL.unsqueeze(-1).expand(poses_BL4.shape))
