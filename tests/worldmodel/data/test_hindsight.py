"""Labels in hindsight: right where they are given, absent where the object may have moved."""

import numpy as np
import pytest

from envs.arm_env import ArmEnv
from envs.play import demonstrate, play
from robot.pose import tcp_to_flange
from worldmodel.data.hindsight import REST_HEIGHT_M, fingertips, hindsight_labels

HELD = 0.45


def states_from(rows):
    """Flange states of fingertip rows (x, y, z, yaw of the pads, closedness)."""
    rows = np.asarray(rows, float)
    tcp = np.zeros((len(rows), 7))
    tcp[:, :3], tcp[:, 3], tcp[:, 5], tcp[:, 6] = rows[:, :3], np.pi, rows[:, 3], rows[:, 4]
    return tcp_to_flange(tcp)


def carry(yaw=0.4):
    """Come down, grasp, lift, carry 10 cm along y, put down, open, go up."""
    heights = [0.2, 0.1, 0.03, 0.022, 0.022, 0.1, 0.1, 0.022, 0.022, 0.022, 0.1, 0.2]
    closed = [0, 0, 0, 0, HELD, HELD, HELD, HELD, HELD, 0, 0, 0]
    y = [0, 0, 0, 0, 0, 0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    return [(0.5, *row) for row in zip(y, heights, [yaw] * 12, closed, strict=True)]


def test_fingertips_are_those_of_the_flange():
    rows = np.array([(0.5, 0.1, 0.2, yaw, 0) for yaw in np.linspace(-1.5, 1.5, 7)])
    tcp_T3, yaw_T = fingertips(states_from(rows))
    np.testing.assert_allclose(tcp_T3, rows[:, :3], atol=1e-9)
    np.testing.assert_allclose(yaw_T, rows[:, 3], atol=1e-9)


@pytest.mark.parametrize("yaw", [-1.2, 0.0, 0.4, 1.5])
def test_a_carried_object_is_known_from_before_to_after(yaw):
    found = hindsight_labels(states_from(carry(yaw)))
    assert np.isfinite(found.position_T3).all()
    np.testing.assert_allclose(found.position_T3[:5, 1], 0, atol=1e-6)
    np.testing.assert_allclose(found.position_T3[6:, 1], 0.1, atol=1e-6)
    np.testing.assert_allclose(found.position_T3[[0, 11], 2], REST_HEIGHT_M, atol=1e-6)
    np.testing.assert_allclose(found.position_T3[5, 2], 0.1, atol=1e-3)
    np.testing.assert_allclose(found.yaw_T, yaw, atol=1e-6)
    assert found.contact_T[4:9].all()


def test_a_push_before_the_grasp_hides_what_was_before_it():
    push = [(0.5, y, z, 0.4, 0.97) for y, z in [(-0.2, 0.2), (-0.15, 0.02), (-0.08, 0.02)]]
    push += [(0.5, y, z, 0.4, 0.97) for y, z in [(-0.03, 0.02), (-0.06, 0.02), (-0.06, 0.2)]]
    found = hindsight_labels(states_from(push + carry()))
    known = np.isfinite(found.position_T3[:, 0])
    assert known.tolist() == [False] * 3 + [True] * 15  # known from the end of the stroke on
    assert found.contact_T[3]
    assert not found.contact_T[:2].any()


def test_nothing_is_known_where_nothing_was_held():
    empty = [(x, y, z, yaw, 0.97 * (closed > 0)) for x, y, z, yaw, closed in carry()]
    found = hindsight_labels(states_from(empty))
    assert np.isnan(found.position_T3).all()
    assert np.isnan(found.yaw_T).all()
    assert not found.contact_T.any()
    drop = carry()[:7] + [(0.5, 0.1, 0.1, 0.4, 0.0)] * 3  # opens high above the table
    assert np.isnan(hindsight_labels(states_from(drop)).position_T3[7:]).all()


def test_agrees_with_the_simulator():
    env = ArmEnv("pick_place")
    errors, frames = [], 0
    for seed, policy in enumerate([demonstrate, play, demonstrate, play]):
        rng = np.random.default_rng(seed)
        env.reset(seed=seed)
        actions, states, truth = policy(env, rng), [], []
        for _ in range(28):
            states.append(env.arm.state().state)
            truth.append(env.object_m.copy())
            env.arm.send(next(actions))
        found = hindsight_labels(np.array(states))
        gap = np.linalg.norm(found.position_T3 - np.array(truth), axis=1)
        errors.append(gap[np.isfinite(gap)])
        frames += len(gap)
    errors = np.concatenate(errors)
    assert len(errors) > 0.4 * frames
    assert np.median(errors) < 0.01
    assert np.quantile(errors, 0.9) < 0.03
