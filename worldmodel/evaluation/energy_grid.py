"""Energy landscape: distance of the predicted frame from a goal for a grid of actions.

Energy: mean absolute difference of normalised tokens (V-JEPA 2, arXiv 2506.09985, sec. 3.2).

Shapes: G grid points per axis, A action (7), S state (7), N tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from worldmodel.actions import pose_diff
from worldmodel.errors import ConfigError, ShapeError
from worldmodel.models.energy import token_distance
from worldmodel.models.world_model import WorldModel

AXES = "xyz"


@dataclass(frozen=True)
class EnergyGrid:
    """Energies of moves in three planes, of the recorded move and of no move."""

    values_m: Tensor
    """Grid values along an axis [G], symmetric about 0 [m]."""
    planes: dict[str, Tensor]
    """Plane (`xy`, `xz`, `yz`) -> energies [G, G], with the first axis along rows."""
    true_action: Tensor
    """Recorded action [7] between the two frames."""
    true_energy: float
    best_action: Tensor
    """Action [7] with the lowest energy on the grid."""
    best_energy: float
    still_energy: float
    """Energy of not moving."""


def grid_actions(num_points: int, size_m: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Build the grid values and each plane's moves [G * G, 7], without rotation or gripper.

    Raises:
        ConfigError: The grid is even or too small, so that it lacks "no move", or its size is 0.
    """
    if num_points < 3 or num_points % 2 == 0:
        raise ConfigError(f"grid={num_points} must be an odd number, 3 or more")
    if not size_m > 0:
        raise ConfigError(f"size_m={size_m} must be above 0 m")
    half = torch.arange(1, num_points // 2 + 1) * (size_m / (num_points // 2))
    values = torch.cat([-half.flip(0), torch.zeros(1), half])  # exactly symmetric
    planes = {}
    for first, second in combinations(range(3), 2):
        actions = torch.zeros(num_points, num_points, 7)
        actions[..., first] = values[:, None]
        actions[..., second] = values[None, :]
        planes[AXES[first] + AXES[second]] = actions.flatten(0, 1)
    return values, planes


@torch.no_grad()
def action_energies(
    model: WorldModel,
    z_1ND: Tensor,
    state_S: Tensor,
    goal_1ND: Tensor,
    actions_BA: Tensor,
    batch_size: int = 32,
) -> Tensor:
    """Compute the energy [B] of the frame predicted after each action."""
    found = []
    for actions in actions_BA.split(batch_size):
        imagined = model.unroll(z_1ND, state_S[None], actions[:, None])[:, 0]
        found.append(token_distance(imagined, goal_1ND))
    return torch.cat(found)


def energy_grid(
    model: WorldModel,
    frames_2HWC: Tensor,
    states_2S: Tensor,
    *,
    num_points: int = 9,
    size_m: float | None = None,
    batch_size: int = 32,
) -> EnergyGrid:
    """Compute the energy landscape around one step of a recording.

    Args:
        model: Any world model.
        frames_2HWC: uint8 RGB, the current and the next frame, at the model's size.
        states_2S: Robot states at both frames.
        num_points: Odd number of grid points per axis.
        size_m: Maximum move along an axis [m]; None uses the limit of the model's actions.
        batch_size: Number of actions per batch.

    Raises:
        ShapeError: Not two frames and two states.
        ConfigError: The number of grid points is even.
    """
    if len(frames_2HWC) != 2 or tuple(states_2S.shape) != (2, 7):
        raise ShapeError(
            f"{len(frames_2HWC)} frames and states {tuple(states_2S.shape)} were given; use 2 "
            "frames and states of shape (2, 7)"
        )
    reach_m = model.action_spec.max_step_m if size_m is None else size_m
    values, planes = grid_actions(num_points, reach_m)
    tokens = model.encode(frames_2HWC)
    device = tokens.device
    states = states_2S.to(device, torch.float32)
    true_action = pose_diff(states[:1], states[1:])[0]
    energies: dict[str, Tensor] = {}
    best = (float("inf"), true_action)
    for name, actions in planes.items():
        plane_energies = action_energies(
            model, tokens[:1], states[0], tokens[1:], actions.to(device), batch_size
        ).cpu()
        lowest = int(plane_energies.argmin())
        best = min(best, (float(plane_energies[lowest]), actions[lowest]), key=lambda pair: pair[0])
        energies[name] = plane_energies.view(num_points, num_points)
    true_energy = action_energies(model, tokens[:1], states[0], tokens[1:], true_action[None])
    middle = num_points // 2
    return EnergyGrid(
        values_m=values,
        planes=energies,
        true_action=true_action.cpu(),
        true_energy=float(true_energy),
        best_action=best[1],
        best_energy=best[0],
        still_energy=float(energies["xy"][middle, middle]),
    )
