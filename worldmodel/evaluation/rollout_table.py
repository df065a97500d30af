"""Error of the decoded object pose by imagined step, for pushed, lifted and still objects.

Shapes: C clips, T frames, K steps, M objects or slots, N tokens, D width, S state, A action.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.evaluation.object_errors import pose_errors
from worldmodel.models.object_head import ObjectHead, ObjectPose
from worldmodel.models.world_model import WorldModel

STEPS = (1, 2, 4, 6, 8, 10, 12, 14)
"""Imagined steps that the table shows."""
MOVED_M, STILL_M = 0.02, 0.003
"""Displacement since the start above which an object counts as moved, and below which as still."""
LIFTED_M = 0.015
"""Rise of the centre above which an object counts as lifted."""
CERTAIN = 0.5
"""Certainty of the decoded yaw below which an object is left out of the yaw's error."""

MEMORY = 4_000_000_000
"""Memory for clips that are imagined at once [bytes]."""

Row = dict[str, float | int]


@dataclass(frozen=True, kw_only=True)
class RolloutClips:
    """Recorded clips with the simulator's poses, which only this evaluation uses."""

    z_CTND: Tensor
    """Encoded frames."""
    states_CTS: Tensor
    """Robot states."""
    actions_CKA: Tensor
    """Actions between the frames."""
    poses_CTM4: Tensor
    """x, y, z [m] and yaw [rad] of each object; NaN beyond the scene's objects."""


@torch.no_grad()
def rollout_table(
    world: WorldModel, head: ObjectHead, clips: RolloutClips, steps: tuple[int, ...] = STEPS
) -> dict[str, dict[str, Row]]:
    """Return errors by kind (`pushed`, `lifted`, `still`) and step.

    A kind holds the object of each clip that moved most up to the step. `copy` decodes the clip's
    first frame, which a model that predicts no change would imagine; `encoded` decodes the frame
    that was recorded at the step.

    Args:
        world: Model, whose predictor takes at least the largest step.
        head: Object head of the model.
        clips: Clips of more frames than the largest step.
        steps: Imagined steps.

    Returns:
        Kind -> step -> medians `imagined_cm`, `copy_cm`, `encoded_cm`, `moved_cm`, `yaw_deg` and
        `yaw_copy_deg`, and the counts `clips` and `yaw_clips`. Medians over no clip are NaN.
    """
    imagined_CKND = _imagine(world, clips, max(steps))
    table: dict[str, dict[str, Row]] = {"pushed": {}, "lifted": {}, "still": {}}
    for k in steps:
        true_C4, moved_C, lifted_C = _followed(clips.poses_CTM4[:, : k + 1])
        frames = {
            "imagined": imagined_CKND[:, k - 1],
            "copy": clips.z_CTND[:, 0],
            "encoded": clips.z_CTND[:, k],
        }
        errors = {name: _errors(head, z_CND, true_C4) for name, z_CND in frames.items()}
        certain_C = _located(head, frames["encoded"]).yaw_certainty.amax(-1) > CERTAIN
        kinds = {
            "pushed": (moved_C > MOVED_M) & ~lifted_C,
            "lifted": (moved_C > MOVED_M) & lifted_C,
            "still": moved_C < STILL_M,
        }
        for kind, chosen_C in kinds.items():
            table[kind][str(k)] = _row(errors, moved_C, chosen_C, certain_C)
    return table


def _errors(head: ObjectHead, z_CND: Tensor, true_C4: Tensor) -> tuple[Tensor, Tensor]:
    """Return the position [C, m] and yaw [C, rad] errors of one object."""
    gap_C1, turn_C1 = pose_errors(_located(head, z_CND), true_C4.unsqueeze(1))
    return gap_C1[:, 0], turn_C1[:, 0]


def _located(head: ObjectHead, z_CND: Tensor) -> ObjectPose:
    """Decode poses on the head's device, and return them on the CPU."""
    pose = head.locate(z_CND.to(next(head.parameters()).device))
    values = {item.name: getattr(pose, item.name).cpu() for item in dataclasses.fields(pose)}
    return ObjectPose(**values)


def _imagine(world: WorldModel, clips: RolloutClips, steps: int) -> Tensor:
    """Return the tokens imagined on the model's device, in parts that fit into `MEMORY`."""
    device, given = world.encoder.device, (clips.z_CTND[:, 0], clips.states_CTS[:, 0])
    size = max(1, MEMORY // world.bytes_per_sample(steps))
    parts = [
        world.unroll(*(x.to(device) for x in part)).cpu()
        for part in zip(
            *(x.split(size) for x in (*given, clips.actions_CKA[:, :steps])), strict=True
        )
    ]
    return torch.cat(parts)


def _followed(poses_CTM4: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the last pose [C, 4] of the object that moved most, how far, and if it was lifted."""
    moved_CM = (poses_CTM4[:, -1, :, :2] - poses_CTM4[:, 0, :, :2]).norm(dim=-1)
    most_C = moved_CM.nan_to_num(-1.0).argmax(-1)
    each_C = torch.arange(len(poses_CTM4))
    pose_CT4 = poses_CTM4[each_C, :, most_C]
    rise_C = (pose_CT4[..., 2] - pose_CT4[:, :1, 2]).amax(-1)
    return pose_CT4[:, -1], moved_CM[each_C, most_C], rise_C > LIFTED_M


def _row(
    errors: dict[str, tuple[Tensor, Tensor]], moved_C: Tensor, chosen_C: Tensor, certain_C: Tensor
) -> Row:
    turned_C = chosen_C & certain_C & ~errors["encoded"][1].isnan()
    row: Row = {f"{name}_cm": 100 * _median(gap_C[chosen_C]) for name, (gap_C, _) in errors.items()}
    row["moved_cm"] = 100 * _median(moved_C[chosen_C])
    row["clips"] = int(chosen_C.sum())
    row["yaw_deg"] = math.degrees(_median(errors["imagined"][1][turned_C]))
    row["yaw_copy_deg"] = math.degrees(_median(errors["copy"][1][turned_C]))
    row["yaw_clips"] = int(turned_C.sum())
    return row


def _median(values: Tensor) -> float:
    return float(values.quantile(0.5)) if len(values) else math.nan
