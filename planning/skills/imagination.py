"""Imagine the outcome of skills of different lengths, and measure its distance from the goal.

Shapes: B samples, K actions, N tokens, D width, S state (7), A action (7), M objects.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from planning.energy import UNITS, energy
from planning.errors import EnergyError
from planning.located import Located
from planning.protocols import SkillModel

Array = NDArray[np.float64]

PRESENT = 0.3
"""Presence below which a slot of the object head is empty."""
IN_AIR_M = 0.08
"""Height above which nothing lies on the table [m]."""
SAME_M = 0.03
"""Slots closer together than this are the same object [m]."""
CERTAIN = 0.35
"""Certainty below which an object's yaw is unknown. `one_goal_labelled` decodes 0.03 to 0.3 for
most cubes and over 0.6 for nine of ten long bodies."""
DOUBT_M = 0.15
"""Distance that an empty slot, or one in the air, is farther from a goal [m]."""
M_PER_RAD = 0.06
"""Position error that counts as much as one radian of yaw [m]; a long box turned by 1 rad moves its
ends by about as much."""
CHUNK = 64
"""Number of samples predicted at once. Samples are sorted by length, and each chunk is predicted
only as far as its longest sample."""


def locate(model: SkillModel, z_1ND: Tensor, *, at_home: bool = False) -> list[Located] | None:
    """Decode the objects on the table, the most certain first; None without an object head.

    Args:
        model: World model.
        z_1ND: Tokens of an encoded or imagined frame.
        at_home: Whether it is an encoded frame with the arm at its start pose, as goals have.
    """
    found = model.locate_at_home(z_1ND) if at_home else model.locate(z_1ND)
    if found is None:
        return None
    places_M3 = found.position_m[0].double().cpu().numpy()
    presence_M = found.presence[0].double().cpu().numpy()
    objects: list[Located] = []
    for slot in presence_M.argsort()[::-1]:
        place = places_M3[slot]
        known = any(np.linalg.norm(place - o.position_m) < SAME_M for o in objects)
        # An agent looks with an empty gripper: what is decoded in the air is the gripper itself.
        in_air = place[2] > IN_AIR_M
        weak = presence_M[slot] < PRESENT and bool(objects)
        if known or in_air or weak:
            continue
        certainty = float(found.yaw_certainty[0, slot])
        yaw_rad = float(found.yaw_rad[0, slot]) if certainty >= CERTAIN else None
        objects.append(Located(place, yaw_rad, certainty))
    return objects


def fast_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return bfloat16 autocast where the processor multiplies it natively, else no change."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001 - torch has no public test
    if not native:
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


class Imagination:
    """Predicts the tokens at the end of skills.

    Args:
        model: World model.
        memory: Number of imagined steps after which the prediction restarts from its last frame
            alone; at most the length of the roll-outs that the model was trained on.
        autocast: Whether to predict in bfloat16 where that is faster; for weights in float32.
    """

    def __init__(self, model: SkillModel, memory: int = 14, *, autocast: bool = True) -> None:
        self.model, self.memory, self.autocast = model, memory, autocast

    @torch.no_grad()
    def ends(
        self,
        z_1ND: Tensor,
        state_1S: Tensor,
        actions_BKA: NDArray[np.float32],
        lengths_B: NDArray[np.int64],
    ) -> Tensor:
        """Return the tokens [B, N, D] after the last action of each sample.

        Args:
            z_1ND: Tokens of the current frame.
            state_1S: Current state in the model's state frame.
            actions_BKA: Actions, zero after the end of a sample.
            lengths_B: Number of actions; 0 returns the current tokens.

        Raises:
            EnergyError: A predicted token is not finite.
        """
        out_BND = z_1ND.expand(len(lengths_B), -1, -1).clone()
        order = np.argsort(lengths_B, kind="stable")[::-1]
        moving = order[lengths_B[order] > 0]
        actions = torch.from_numpy(actions_BKA).to(z_1ND.device)
        for start in range(0, len(moving), CHUNK):
            rows = moving[start : start + CHUNK].copy()
            chosen = torch.from_numpy(rows).to(z_1ND.device)
            lengths = torch.from_numpy(lengths_B[rows]).to(z_1ND.device)
            longest = int(lengths_B[rows].max())
            out_BND[chosen] = self._chunk(z_1ND, state_1S, actions[chosen, :longest], lengths)
        if not bool(torch.isfinite(out_BND).all()):
            raise EnergyError(f"The imagined end of a skill is not finite. {UNITS}")
        return out_BND

    def _chunk(
        self, z_1ND: Tensor, state_1S: Tensor, actions_BKA: Tensor, lengths_B: Tensor
    ) -> Tensor:
        """Predict samples in order of falling length, in parts of `memory` steps."""
        batch, horizon = actions_BKA.shape[:2]
        z_BND, state_BS = z_1ND, state_1S
        out_BND = z_1ND.new_empty(batch, *z_1ND.shape[1:])
        for start in range(0, horizon, self.memory):
            active = int((lengths_B > start).sum())  # a prefix, since the lengths fall
            part_BKA = actions_BKA[:active, start : start + self.memory]
            if start:
                z_BND, state_BS = z_BND[:active], state_BS[:active]
            with fast_precision(z_1ND.device) if self.autocast else contextlib.nullcontext():
                z_BKND = self.model.unroll(z_BND, state_BS, part_BKA).float()
            last_B = (lengths_B[:active] - start).clamp(max=part_BKA.shape[1]) - 1
            out_BND[:active] = z_BKND[torch.arange(active, device=last_B.device), last_B]
            state_BS = state_BS.expand(active, -1)
            for k in range(part_BKA.shape[1]):
                state_BS = self.model.next_state(state_BS, part_BKA[:, k])
            z_BND = z_BKND[:, -1]
        return out_BND

    def latent_energy(self, z_BND: Tensor, goal_1ND: Tensor) -> Array:
        """Return the mean absolute difference [B] from the goal's tokens."""
        return energy(z_BND, goal_1ND).double().cpu().numpy()

    def object_energy(self, z_BND: Tensor, goal: Sequence[Located]) -> Array:
        """Return the distance [B, m] of the decoded objects from those of the goal.

        Every object of the goal is compared with the nearest decoded slot; slots that are doubtful
        or in the air count as farther. Yaw errors count where the goal's yaw is known.
        """
        found = self.model.locate(z_BND)
        assert found is not None, "object energy needs a model with an object head"
        place_BM3 = found.position_m.double().cpu().numpy()
        doubt_BM = 1 - found.presence.double().cpu().numpy()
        base_BM = DOUBT_M * doubt_BM + DOUBT_M * (place_BM3[..., 2] > IN_AIR_M)
        total_B = np.zeros(len(z_BND))
        for wanted in goal:
            error_BM = np.linalg.norm(place_BM3[..., :2] - wanted.position_m[:2], axis=-1)
            if wanted.yaw_rad is not None:
                turn_BM = found.yaw_rad.double().cpu().numpy() - wanted.yaw_rad
                turn_BM = np.abs(turn_BM - np.pi * np.round(turn_BM / np.pi))
                error_BM = error_BM + M_PER_RAD * turn_BM
            total_B += (error_BM + base_BM).min(axis=1)
        return total_B
