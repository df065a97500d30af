"""The 7-D pose and action convention in batched, differentiable torch.

State [..., 7]: x y z [m] in the robot base frame, extrinsic xyz Euler angles [rad], closedness
0 open .. 1 closed. Action [..., 7]: difference of positions, Euler angles of R_next @ R_now^T,
difference of closedness. Source: V-JEPA 2 (arXiv 2506.09985), sec. 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from worldmodel.constants import FLANGE_TO_TCP_M
from worldmodel.specs import StateFrame


def euler_to_matrix(angles: Tensor) -> Tensor:
    """Convert extrinsic xyz Euler angles [..., 3] in rad to rotation matrices [..., 3, 3]."""
    (sa, sb, sc), (ca, cb, cc) = angles.sin().unbind(-1), angles.cos().unbind(-1)
    entries = [
        cc * cb,
        cc * sb * sa - sc * ca,
        cc * sb * ca + sc * sa,
        sc * cb,
        sc * sb * sa + cc * ca,
        sc * sb * ca - cc * sa,
        -sb,
        cb * sa,
        cb * ca,
    ]
    return torch.stack(entries, dim=-1).unflatten(-1, (3, 3))


def matrix_to_euler(matrix: Tensor) -> Tensor:
    """Convert rotation matrices [..., 3, 3] to extrinsic xyz Euler angles [..., 3] in rad.

    Pitch is within +-pi/2; at +-pi/2 (gimbal lock) roll is 0.
    """
    flat = torch.hypot(matrix[..., 0, 0], matrix[..., 1, 0])
    pitch = torch.atan2(-matrix[..., 2, 0], flat)
    regular = flat > 1e-6
    roll = torch.atan2(matrix[..., 2, 1], matrix[..., 2, 2])
    yaw = torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0])
    locked_yaw = torch.atan2(-matrix[..., 0, 1], matrix[..., 1, 1])
    roll = torch.where(regular, roll, torch.zeros_like(roll))
    yaw = torch.where(regular, yaw, locked_yaw)
    return torch.stack([roll, pitch, yaw], dim=-1)


def pose_diff(state: Tensor, next_state: Tensor) -> Tensor:
    """Compute the action [..., 7] from `state` to `next_state`."""
    now, then = euler_to_matrix(state[..., 3:6]), euler_to_matrix(next_state[..., 3:6])
    turn = matrix_to_euler(then @ now.transpose(-1, -2))
    moved = next_state[..., :3] - state[..., :3]
    return torch.cat([moved, turn, next_state[..., 6:] - state[..., 6:]], dim=-1)


def apply_action(state: Tensor, action: Tensor) -> Tensor:
    """Compute the state [..., 7] after an action; closedness is clamped to 0..1."""
    turned = euler_to_matrix(action[..., 3:6]) @ euler_to_matrix(state[..., 3:6])
    closed = (state[..., 6:] + action[..., 6:]).clamp(0.0, 1.0)
    moved = state[..., :3] + action[..., :3]
    return torch.cat([moved, matrix_to_euler(turned), closed], dim=-1)


def convert_state(state: Tensor, source: StateFrame, target: StateFrame) -> Tensor:
    """Convert states [..., 7] exactly between two frames of the arm.

    `flange` is panda_link8; `tcp` is the point between the fingertips, 0.1034 m along the flange's
    z axis. Both have the flange's orientation, as in the training data.
    """
    if source == target:
        return state
    along = FLANGE_TO_TCP_M if target == "tcp" else -FLANGE_TO_TCP_M
    tool_axis = euler_to_matrix(state[..., 3:6])[..., :, 2]
    return torch.cat([state[..., :3] + along * tool_axis, state[..., 3:]], dim=-1)
