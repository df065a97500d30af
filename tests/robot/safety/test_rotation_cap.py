"""The rotation of a step is capped by its angle, whatever axis and however it is composed."""

import itertools
import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot import pose
from robot.arm import ArmSpec
from robot.fake import FakeArm
from robot.safety.config import SafetyConfig
from robot.safety.layer import SafeArm
from robot.safety.limits import Limits

CAP_RAD = 0.15
FREE = {
    "max_tilt_rad": 3.2,
    "flange_low_m": (-2.0, -2.0, -2.0),
    "flange_high_m": (2.0, 2.0, 2.0),
    "tip_low_m": (-2.0, -2.0, -2.0),
    "tip_high_m": (2.0, 2.0, 2.0),
    "table_z_m": -2.0,
}


def angle(now, then):
    a, b = (Rotation.from_euler("xyz", s[3:6]) for s in (now, then))
    return float((b * a.inv()).magnitude())


def random_base(rng):
    base = FakeArm().state().state
    base[3:6] = Rotation.random(random_state=rng).as_euler("xyz")
    return base


@pytest.mark.parametrize("signs", itertools.product([-1, 1], repeat=3))
def test_equal_components_do_not_add_up_to_more_than_the_cap(signs):
    limits, base = Limits(SafetyConfig(**FREE)), FakeArm().state().state
    asked = np.concatenate([np.zeros(3), 0.15 * np.array(signs), [0.0]])
    sent = limits.judge("action", asked, base, False, np.zeros(7))
    assert angle(base, sent.target) == pytest.approx(CAP_RAD, abs=1e-9)
    assert [r.kind for r in sent.reasons] == ["rotation"]


@pytest.mark.parametrize("kind", ["action", "pose"])
def test_random_rotations_from_random_orientations_keep_axis_and_cap(kind):
    rng, limits = np.random.default_rng(0), Limits(SafetyConfig(**FREE))
    for _ in range(400):
        base = random_base(rng)
        asked = np.concatenate([base[:3] if kind == "pose" else np.zeros(3), rng.normal(0, 2, 4)])
        sent = limits.judge(kind, asked, base, False, np.zeros(7))
        wanted = asked[3:6] if kind == "pose" else pose.apply_action(base, asked)[3:6]
        a, b, c = (Rotation.from_euler("xyz", e) for e in (base[3:6], wanted, sent.target[3:6]))
        asked_turn, sent_turn = (b * a.inv()).as_rotvec(), (c * a.inv()).as_rotvec()
        most = min(CAP_RAD, float(np.linalg.norm(asked_turn)))
        np.testing.assert_allclose(
            sent_turn, asked_turn * most / np.linalg.norm(asked_turn), atol=1e-7
        )
        reported = Rotation.from_euler("xyz", sent.action[3:6]).magnitude()
        assert reported == pytest.approx(angle(base, sent.target), abs=1e-9)


def test_a_small_rotation_passes_unchanged():
    limits, base = Limits(SafetyConfig(**FREE)), FakeArm().state().state
    asked = np.array([0, 0, 0, 0.08, -0.08, 0.08, 0])
    sent = limits.judge("action", asked, base, False, np.zeros(7))
    assert sent.reasons == ()
    np.testing.assert_allclose(sent.action[3:6], asked[3:6], atol=1e-12)


def test_half_turns_about_any_axis_are_capped():
    rng, limits = np.random.default_rng(1), Limits(SafetyConfig(**FREE))
    for _ in range(50):
        base, axis = FakeArm().state().state, rng.normal(size=3)
        turn = Rotation.from_rotvec(math.pi * axis / np.linalg.norm(axis))
        wanted = base.copy()
        wanted[3:6] = (turn * Rotation.from_euler("xyz", base[3:6])).as_euler("xyz")
        sent = limits.judge("pose", wanted, base, False, np.zeros(7))
        assert angle(base, sent.target) == pytest.approx(CAP_RAD, abs=1e-6)


def test_the_speed_of_rotation_caps_the_step_of_a_driver_that_does_not_wait():
    limits = Limits(SafetyConfig(step_s=0.1, max_turn_rad_s=0.5, **FREE))
    base = FakeArm().state().state
    sent = limits.judge("action", np.array([0, 0, 0, 0, 0, 0.15, 0]), base, False, np.zeros(7))
    assert angle(base, sent.target) == pytest.approx(0.05, abs=1e-9)


class Tilted(FakeArm):
    """An arm whose measured orientation a contact has turned away from its targets."""

    turn_rad = 0.0

    def state(self):
        found = super().state()
        found.state[3:6] = pose.turn_by(found.state[3:6], [self.turn_rad, 0.0, 0.0])
        return found


def test_the_turn_from_the_measured_orientation_is_bounded_too():
    arm, config = Tilted(), SafetyConfig(**FREE)
    safe = SafeArm(arm, config, execute=True)
    arm.turn_rad = 0.5
    measured = arm.state().state
    sent = safe.send([0, 0, 0, -0.1, -0.1, 0.1, 0])
    assert angle(measured, sent.target) <= CAP_RAD + config.max_lag_rad + 1e-6
    back = [angle(arm.state().state, safe.send(np.zeros(7)).target) for _ in range(3)]
    assert max(back) <= config.max_lag_rad + 1e-6


def test_planner_model_and_safety_layer_mean_the_same_limit():
    from worldmodel.specs import ActionSpec

    assert ArmSpec().max_rotation_rad == SafetyConfig().max_step_rad == CAP_RAD
    assert ActionSpec().max_rotation_rad == CAP_RAD


def test_rotation_vectors_round_trip():
    rng = np.random.default_rng(2)
    for _ in range(100):
        vector = rng.normal(size=3)
        vector *= rng.uniform(0, math.pi) / np.linalg.norm(vector)
        matrix = pose.rotation_matrix(vector)
        np.testing.assert_allclose(matrix, Rotation.from_rotvec(vector).as_matrix(), atol=1e-12)
        np.testing.assert_allclose(pose.rotation_vector(matrix), vector, atol=1e-6)
    np.testing.assert_array_equal(pose.rotation_matrix(np.zeros(3)), np.eye(3))
