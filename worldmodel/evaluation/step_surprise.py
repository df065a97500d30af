"""Surprise of a world model at every step of an episode, and how well it separates episodes.

Shapes: E episodes, T frames, N tokens, D width, S state, K = T - 1 actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.errors import ShapeError
from worldmodel.models.world_model import WorldModel
from worldmodel.perception.surprise.pair_metrics import areas

Scores = NDArray[np.float64]
RESAMPLES = 2000
"""Number of bootstrap samples of an interval."""


@torch.no_grad()
def step_errors(
    world: WorldModel, z_ETND: Tensor, states_ETS: Tensor, actions_EKA: Tensor, context: int
) -> Tensor:
    """Predict every frame from the ones before and the true actions; return the errors [E, K].

    The error of step t is the mean absolute difference between the tokens of frame t + 1 and their
    prediction from the last `context` frames up to t.

    Args:
        world: Model.
        z_ETND: Tokens of the frames.
        states_ETS: Robot states in the model's frame.
        actions_EKA: Action from each frame to the next.
        context: Maximum number of frames that a prediction sees.

    Raises:
        ShapeError: There are fewer than two frames, or not one action between each two.
    """
    frames = z_ETND.shape[1]
    if frames < 2 or actions_EKA.shape[1] != frames - 1 or states_ETS.shape[1] != frames:
        raise ShapeError(
            f"{frames} frames, {states_ETS.shape[1]} states and {actions_EKA.shape[1]} actions; "
            "needed: at least two frames, a state for each, and an action between each two"
        )
    device = next(world.dynamics.parameters()).device
    errors = []
    for step in range(frames - 1):
        seen = slice(max(0, step + 1 - context), step + 1)
        parts = (z_ETND[:, seen], actions_EKA[:, seen], states_ETS[:, seen])
        out_EtND = world.predict(*(part.to(device) for part in parts))
        error_END = (out_EtND[:, -1].float().cpu() - z_ETND[:, step + 1].float()).abs()
        errors.append(error_END.mean((1, 2)))
    return torch.stack(errors, dim=1)


@dataclass(frozen=True, kw_only=True)
class Separation:
    """How well the largest error of an episode tells an event."""

    auroc: float
    """Area under the ROC curve, 0 to 1; 0.5 is chance."""
    low: float
    """Lower end of its 95 % interval, by resampling pairs of episodes."""
    high: float
    pairs_won: int
    """Number of episodes whose largest error is above that of the episode without the event."""
    found_at: int
    """Number of episodes whose largest error is in the steps of the event."""
    ratio: float
    """Median over episodes of the error at the event over the same step's error without it."""
    episodes: int


def separation(
    plain_EK: Tensor, event_EK: Tensor, event_steps_E: Tensor, width: int, *, seed: int = 0
) -> Separation:
    """Compare the errors of episodes with an event with those of the same episodes without.

    Args:
        plain_EK: Errors without the event.
        event_EK: Errors with it.
        event_steps_E: First step whose error contains the event.
        width: Number of steps of the event.
        seed: Seed of the bootstrap.
    """
    plain_E, event_E = (np.asarray(x.double().amax(1)) for x in (plain_EK, event_EK))
    rng, count = np.random.default_rng(seed), len(plain_E)
    chosen = rng.integers(count, size=(RESAMPLES, count))
    areas_R = [areas(plain_E[pick], event_E[pick])[0] for pick in chosen]
    low, high = np.quantile(areas_R, (0.025, 0.975))
    inside_Ew = event_steps_E[:, None] + torch.arange(width)
    at_E = event_EK.gather(1, inside_Ew).amax(1)
    before_E = plain_EK.gather(1, inside_Ew).amax(1)
    late_E = event_EK.argmax(1)
    found_E = (late_E >= event_steps_E) & (late_E < event_steps_E + width)
    return Separation(
        auroc=areas(plain_E, event_E)[0],
        low=float(low),
        high=float(high),
        pairs_won=int((event_E > plain_E).sum()),
        found_at=int(found_E.sum()),
        ratio=float((at_E / before_E.clamp_min(1e-12)).median()),
        episodes=count,
    )
