"""Rollouts of a latent dynamics in training: several predicted steps from one encoded frame.

Shapes: B clips, T frames, K steps, N tokens per frame, D width, S state, A action.
"""

from __future__ import annotations

import torch
from torch import Tensor

from worldmodel.models.dynamics import LatentDynamics
from worldmodel.training.batches import Batch
from worldmodel.training.losses import prediction_loss


def published_rollout_loss(
    dynamics: LatentDynamics, z_BTND: Tensor, first_BND: Tensor, batch: Batch, steps: int
) -> Tensor:
    """Return the error of frames predicted from the model's own outputs, as published.

    The rollout starts from `first_BND`, the first teacher-forced output, and computes the whole
    context again at each step, with the recorded robot states. Source: V-JEPA 2 (arXiv
    2506.09985), sec. 3.1.
    """
    steps = min(steps, batch["actions"].shape[1])
    frames, loss = [z_BTND[:, 0], first_BND], z_BTND.new_zeros(())
    for k in range(1, steps):
        out = dynamics.predict(
            torch.stack(frames, dim=1),
            batch["actions"][:, : k + 1],
            batch["states"][:, : k + 1],
            batch["extrinsics"][:, : k + 1] if "extrinsics" in batch else None,
        )
        frames.append(out[:, -1])
        loss = loss + prediction_loss(out[:, -1], z_BTND[:, k + 1])
    return loss / max(1, steps - 1)


def free_rollout(
    dynamics: LatentDynamics,
    z_BND: Tensor,
    state_BS: Tensor,
    actions_BKA: Tensor,
    restart: float = 0.0,
) -> Tensor:
    """Return the frames of `free_rollout_with_states`."""
    return free_rollout_with_states(dynamics, z_BND, state_BS, actions_BKA, restart)[0]


def free_rollout_with_states(
    dynamics: LatentDynamics,
    z_BND: Tensor,
    state_BS: Tensor,
    actions_BKA: Tensor,
    restart: float = 0.0,
) -> tuple[Tensor, Tensor | None]:
    """Predict the tokens [B, K, N, D] that result from actions, with gradients through all steps.

    It imagines as the planner does: from one frame, with cached keys and values, and with the robot
    states that follow from the actions. The time is linear in the number of steps.

    Args:
        dynamics: The dynamics.
        z_BND: Tokens of the first frame.
        state_BS: Robot state at the first frame.
        actions_BKA: K actions; a rollout longer than the predictor's frames restarts from its last
            predicted frame.
        restart: Probability that the rollout also restarts at a random step.

    Returns:
        The tokens, and the predicted states [B, K, S] in the predictor's units; None if the
        predictor predicts no state.
    """
    parts, states, frame_BND = [], [], z_BND
    for length in _lengths(actions_BKA.shape[1], dynamics.config.predictor.num_frames, restart):
        now_BLA, actions_BKA = actions_BKA[:, :length], actions_BKA[:, length:]
        frames_BLND, states_BLS = dynamics.unroll_with_states(frame_BND, state_BS, now_BLA)
        parts.append(frames_BLND)
        if states_BLS is not None:
            states.append(states_BLS)
        frame_BND = parts[-1][:, -1]
        for action_BA in now_BLA.unbind(1):
            state_BS = dynamics.next_state(state_BS, action_BA)
    return torch.cat(parts, dim=1), torch.cat(states, dim=1) if states else None


def _lengths(steps: int, longest: int, restart: float) -> list[int]:
    """Return the lengths of a rollout's parts, each at most `longest`."""
    parts = [steps]
    if restart and steps > 1 and float(torch.rand(())) < restart:
        at = int(torch.randint(1, steps, ()))
        parts = [at, steps - at]
    return [min(longest, part - done) for part in parts for done in range(0, part, longest)]
