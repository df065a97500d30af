"""Wrong units, signs, frames, meanings and times of actions are named; right ones are not."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from worldmodel.data.action_check import actions_of, check_actions, integrate
from worldmodel.data.episode import Episode
from worldmodel.data.writers.synthetic import random_states

TURN = Rotation.from_euler("xyz", [0.3, -0.5, 1.9])


def episode(seed, targets=None, **changes):
    states = random_states(60, seed)[::4]
    rng = np.random.default_rng(seed)
    states[:, :3] += np.cumsum(rng.normal(size=(15, 3)), axis=0) * 0.01
    states[:, 3:6] = np.stack([np.full(15, np.pi), 0 * states[:, 0], 4 * states[:, 1]], axis=1)
    found = Episode(
        id="e",
        layout="lerobot",
        states_TS=states,
        times_s=np.arange(15) / 4,
        cameras={},
        moving_T=np.ones(15, bool),
        targets_TS=None if targets is None else targets(states),
    )
    return dataclasses.replace(found, **changes)


def following(states):
    return np.concatenate([states[1:], states[-1:]])


def commanded(change):
    """Targets whose moves are changed by a function of (states, moves)."""

    def targets(states):
        found = following(states)
        moves = found[:, :3] - states[:, :3]
        found[:, :3] = states[:, :3] + change(states, moves)
        return found

    return targets


def texts(targets):
    return check_actions([episode(seed, targets) for seed in range(3)])


def test_right_actions_are_good():
    findings = texts(following)
    assert all(f.good for f in findings[1:])
    assert "explain 100%" in findings[2].text


def test_a_lagging_arm_is_good():
    findings = texts(commanded(lambda _, moves: 1.2 * moves + 0.002))
    assert findings[2].good


FAULTS = {
    "thousandth": (lambda _, m: m / 1000, "multiplied by 1e+03"),
    "thousandfold": (lambda _, m: m * 1000, "multiplied by 0.001"),
    "reversed": (lambda _, m: m * [1, -1, 1], "the sign of y is reversed"),
    "all reversed": (lambda _, m: -m, "the sign of x, y, z is reversed"),
    "turned": (lambda _, m: TURN.inv().apply(m), f"turned by {np.degrees(TURN.magnitude()):.0f}"),
    "hand's frame": (
        lambda s, m: Rotation.from_euler("xyz", s[:, 3:6]).inv().apply(m),
        "action_frame=tool",
    ),
    "absolute": (lambda s, m: s[:, :3] + m, "actions=target"),
    "differences": (lambda s, m: m - s[:, :3], "actions=delta"),
    "shifted": (lambda _, m: np.roll(m, -1, axis=0), "one step later"),
    "noise": (lambda _, m: np.random.default_rng(9).normal(size=m.shape) * 0.02, "no other unit"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_named(name):
    change, text = FAULTS[name]
    finding = texts(commanded(change))[2]
    assert finding.good is False
    assert text in finding.text


def test_a_reversed_gripper_is_named():
    def targets(states):
        found = following(states)
        found[:, 6] = 2 * states[:, 6] - found[:, 6]
        return found

    assert "does the opposite" in texts(targets)[-1].text


def test_a_wrong_rotation_is_named():
    def targets(states):
        found = following(states)
        found[:, 3:6] = 0.0
        return found

    assert any("turns: check rotation=" in f.text for f in texts(targets))


def test_derived_actions_and_the_hands_direction_are_facts():
    up = [episode(seed) for seed in range(2)]
    for e in up:
        e.states_TS[:, 3] = 0.0
    findings = check_actions(up)
    assert [f.good for f in findings] == [None, False, None]
    assert "tilted by 180" in findings[1].text


def test_integrated_actions_are_the_states():
    one = episode(0)
    found = integrate(one.states_TS, actions_of(one))
    np.testing.assert_allclose(found[:, [0, 1, 2, 6]], one.states_TS[:, [0, 1, 2, 6]], atol=1e-9)
