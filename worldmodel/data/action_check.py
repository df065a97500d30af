"""Compare recorded actions with the motion of the states, and say what is wrong with them.

Wrong units, signs, axes, frames or times of actions do not stop a training run; they only make its
model useless. Each of them fits the recorded motion better than the actions as they are.

Shapes: N steps of all episodes, T control steps, S state (7), A action (7).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from worldmodel.actions import apply_action, pose_diff
from worldmodel.data.episode import Array, Episode
from worldmodel.data.rotations import from_euler
from worldmodel.data.sampling import state_actions

GOOD = 0.5
"""Share of the motion that right actions explain at least."""
BETTER = 0.25
"""Gain in that share above which another reading of the actions is reported."""
STILL_M, STILL_RAD = 0.001, 0.005
"""Median size of a step below which nothing moves or turns."""


@dataclass(frozen=True)
class Finding:
    """A sentence about the actions of a data set."""

    text: str
    good: bool | None
    """Whether it is good; None for a mere fact."""


def actions_of(episode: Episode) -> Array:
    """Return the actions [T-1, A] of every step, as training sees them."""
    if episode.actions_TA is not None:
        return episode.actions_TA[: len(episode) - 1]
    return state_actions(episode, np.arange(len(episode)), "flange")[1]


def integrate(states_TS: Array, actions_TA: Array) -> Array:
    """Return the states [T, S] to which the actions lead from the first state."""
    found = [torch.from_numpy(states_TS[0])]
    for action in torch.from_numpy(np.ascontiguousarray(actions_TA)):
        found.append(apply_action(found[-1], action))
    return torch.stack(found).numpy()


def check_actions(episodes: Sequence[Episode]) -> list[Finding]:
    """Return what the actions of some episodes say beside their states."""
    states = [episode.states_TS for episode in episodes]
    moves_N3 = np.concatenate([np.diff(s[:, :3], axis=0) for s in states])
    step_m = float(np.median(np.linalg.norm(moves_N3, axis=1)))
    facts = [Finding(f"The hand moves {100 * step_m:.2g} cm in a median step.", None)]
    facts.append(_hand(np.concatenate(states)))
    if all(e.targets_TS is None and e.actions_TA is None for e in episodes):
        text = "Actions are the differences of the states, so they agree with them by definition."
        return [*facts, Finding(text, None)]
    actions = [actions_of(episode) for episode in episodes]
    facts.append(_translation(states, actions, step_m))
    facts += _rotation(states, actions)
    if all(episode.actions_TA is None for episode in episodes):
        facts += _gripper(states, actions)
    return facts


def _hand(states_NS: Array) -> Finding:
    """Say where the hand points, which a wrong rotation changes."""
    tool_N3 = from_euler(states_NS[:, 3:6])[:, :, 2]
    tilt = float(np.degrees(np.arccos(np.clip(-tool_N3[:, 2].mean(), -1, 1))))
    if tilt <= 60:
        return Finding(f"The hand points down (mean tilt {tilt:.0f} deg).", True)
    return Finding(
        f"The hand is tilted by {tilt:.0f} deg from pointing down on average. If the videos show "
        "it pointing down, rotation=, angle_unit= or frame= is wrong.",
        False,
    )


def _share(moves_N3: Array, predicted_N3: Array) -> float:
    """Return the share of the motion that a prediction explains; 1 is all, 0 is none."""
    total = float((moves_N3**2).sum())
    return 1 - float(((moves_N3 - predicted_N3) ** 2).sum()) / max(total, 1e-12)


def _scaled(moves_N3: Array, actions_N3: Array) -> tuple[float, float]:
    """Return the best factor on the actions, and the share that they then explain."""
    factor = float((actions_N3 * moves_N3).sum()) / max(float((actions_N3**2).sum()), 1e-12)
    return factor, _share(moves_N3, factor * actions_N3)


def _translation(states: list[Array], actions: list[Array], step_m: float) -> Finding:
    moves = np.concatenate([np.diff(s[:, :3], axis=0) for s in states])
    sent = np.concatenate([a[:, :3] for a in actions])
    if step_m < STILL_M and np.abs(moves).max() < 10 * STILL_M:
        return Finding("The hand hardly moves, so its actions cannot be judged.", None)
    share = _share(moves, sent)
    others = _other_readings(states, actions)
    best, text = max(others, key=lambda item: item[0])
    if share >= GOOD and best < share + BETTER:
        return Finding(
            f"Actions lead to the next states: they explain {share:.0%} of the moves.", True
        )
    explained = f"Actions explain {max(share, 0):.0%} of the moves"
    if best >= GOOD and best >= share + BETTER:
        return Finding(f"{explained}, but {best:.0%} if {text}", False)
    return Finding(
        f"{explained}, and no other unit, sign, frame or time explains them. Is `action` the right "
        "column, and actions= its meaning?",
        False,
    )


def _other_readings(states: list[Array], actions: list[Array]) -> list[tuple[float, str]]:
    """Return for each other reading of the actions the share that it explains, and its text.

    Simple readings come first: the first of equal ones is reported.
    """
    moves = np.concatenate([np.diff(s[:, :3], axis=0) for s in states])
    sent = np.concatenate([a[:, :3] for a in actions])
    factor, share = _scaled(moves, sent)
    found = []
    if factor > 0:
        unit = "position_unit=, action_scale= or actions="
        found.append((share, f"they are multiplied by {factor:.3g}: check {unit}"))
    for signs in itertools.product((1, -1), repeat=3):
        if signs == (1, 1, 1):
            continue
        reversed_axes = ", ".join(n for n, sign in zip("xyz", signs, strict=True) if sign < 0)
        share = _share(moves, sent * np.array(signs))
        found.append((share - 0.01, f"the sign of {reversed_axes} is reversed"))
    tool = np.concatenate(
        [
            np.einsum("tij,tj->ti", from_euler(s[:-1, 3:6]), a[:, :3])
            for s, a in zip(states, actions, strict=True)
        ]
    )
    found.append(
        (_share(moves, tool) - 0.01, "they are given in the hand's frame: action_frame=tool")
    )
    starts = np.concatenate([s[:-1, :3] for s in states])
    found.append((_share(moves, sent - starts), "they are commanded states: actions=target"))
    found.append((_share(moves, sent + starts), "they are differences: actions=delta"))
    late = np.concatenate([np.diff(s[:, :3], axis=0)[1:] for s in states])
    early = np.concatenate([a[:-1, :3] for a in actions])
    found.append(
        (
            _share(late, early) - 0.01,
            "they take effect one step later: the columns of state and action are shifted",
        )
    )
    turn_33, angle = _best_turn(moves, sent)
    found.append(
        (
            _share(moves, sent @ turn_33.T) - 0.02,
            f"they are turned by {angle:.0f} deg: "
            "the frame is another one (frame=camera, action_frame=, camera_pose=)",
        )
    )
    return found


def _best_turn(moves_N3: Array, sent_N3: Array) -> tuple[Array, float]:
    """Return the rotation [3, 3] that fits the actions best to the moves, and its angle [deg].

    Source: Kabsch (1976).
    """
    left, _, right = np.linalg.svd(moves_N3.T @ sent_N3)
    flip = np.diag([1.0, 1.0, float(np.sign(np.linalg.det(left @ right)))])
    turn_33 = left @ flip @ right
    angle = np.degrees(np.arccos(np.clip((np.trace(turn_33) - 1) / 2, -1, 1)))
    return turn_33, float(angle)


def _rotation(states: list[Array], actions: list[Array]) -> list[Finding]:
    turned = np.concatenate([_turns(s) for s in states])
    sent = np.concatenate([a[:, 3:6] for a in actions])
    if float(np.quantile(np.linalg.norm(turned, axis=1), 0.9)) < STILL_RAD:
        return []
    share = _share(turned, sent)
    if share >= GOOD:
        return [Finding(f"They explain {share:.0%} of the turns.", True)]
    small = float(np.degrees(np.quantile(np.linalg.norm(turned, axis=1), 0.9)))
    if small < 2:
        text = f"They explain {max(share, 0):.0%} of the turns, which are below {small:.1f} deg."
        return [Finding(text, None)]
    text = f"They explain only {max(share, 0):.0%} of the turns: check rotation= and angle_unit="
    return [Finding(f"{text} (action_scale= for deltas).", False)]


def _turns(states_TS: Array) -> Array:
    states = torch.from_numpy(np.ascontiguousarray(states_TS))
    return pose_diff(states[:-1], states[1:]).numpy()[:, 3:6]


def _gripper(states: list[Array], actions: list[Array]) -> list[Finding]:
    """Compare closing and opening; the sign of the command is often reversed."""
    moved = np.concatenate([np.diff(s[:, 6]) for s in states])
    sent = np.concatenate([a[:, 6] for a in actions])
    if np.abs(moved).max() < 0.05 or np.abs(sent).max() < 0.05:
        return [Finding("The gripper hardly moves, so its commands cannot be judged.", None)]
    agree = float((moved * sent).sum()) / float(np.linalg.norm(moved) * np.linalg.norm(sent))
    if agree > 0.3:
        return [Finding("The gripper follows its commands.", True)]
    text = "The gripper does NOT follow its commands"
    if agree < -0.3:
        text += " but does the opposite: action_gripper is reversed"
    return [Finding(f"{text}. Check action_gripper=, gripper_open= and gripper_closed=.", False)]
