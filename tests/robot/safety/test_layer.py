import importlib.resources
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from omegaconf import OmegaConf

from robot.arm import Reason
from robot.errors import ConfigError
from robot.fake import FakeArm, Fault
from robot.kinematics import Kinematics
from robot.pose import pose_diff
from robot.safety.layer import Limits, SafeArm, SafetyConfig, outside_m, target_outside_m, tips_m
from robot.safety.limits import tilt_rad


def safe(**options):
    log = io.StringIO()
    arm = options.pop("arm", FakeArm())
    config = SafetyConfig(**options.pop("config", {}))
    options.setdefault("execute", True)
    return SafeArm(arm, config, solver=Kinematics(), log=log, **options), log


def rows(log):
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_an_allowed_action_passes_unchanged():
    arm, log = safe()
    before = arm.state().state
    sent = arm.send([0.03, -0.02, 0.01, 0, 0, 0.1, 0])
    assert sent.reasons == ()
    np.testing.assert_allclose(
        pose_diff(before, arm.state().state)[:6], [0.03, -0.02, 0.01, 0, 0, 0.1], atol=6e-3
    )
    assert rows(log)[0]["reasons"] == []


def test_long_steps_keep_their_direction():
    arm, _ = safe()
    sent = arm.send([0.15, -0.075, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(sent.action[:3], [0.075, -0.0375, 0], atol=1e-9)
    assert "step: 0.150 m" in sent.reason_text


def test_the_table_holds_the_fingertips_even_with_a_turned_hand():
    arm, _ = safe()
    for _ in range(12):
        sent = arm.send([0, 0, -0.075, 0.15, 0, 0, 0])
        assert tips_m(sent.target)[:, 2].min() >= 0.005 - 1e-9
        assert tips_m(arm.state().state)[:, 2].min() >= -6e-4  # the solver's tolerance
    assert any(r.kind == "box" for r in sent.reasons)


def test_reject_mode_sends_nothing():
    arm, _ = safe(config={"on_violation": "reject"})
    before = arm.state().state
    assert arm.send([0.2, 0, 0, 0, 0, 0, 0]).refused
    np.testing.assert_array_equal(arm.state().state, before)


@pytest.mark.parametrize("bad", [[np.nan] * 7, [np.inf, 0, 0, 0, 0, 0, 0], [0] * 6, "go", None])
def test_what_is_not_seven_numbers_is_refused(bad):
    arm, log = safe()
    sent = arm.send(bad)
    assert sent.refused
    assert "seven finite numbers" in sent.reason_text
    assert len(rows(log)) == 1
    assert arm.arm.steps == 0


def test_dry_run_is_the_default_and_moves_nothing():
    fake = FakeArm()
    arm = SafeArm(fake, SafetyConfig(), solver=Kinematics())
    sent = arm.send([0.03, 0, 0, 0, 0, 0, 1])
    assert sent.refused
    assert sent.reasons == (Reason("dry run"),)
    assert sent.action[0] == pytest.approx(0.03)
    assert fake.steps == 0


def test_confirm_each_can_say_no():
    arm, _ = safe(confirm=lambda sent: sent.action[0] < 0.02)
    assert not arm.send([0.01, 0, 0, 0, 0, 0, 0]).refused
    assert arm.send([0.03, 0, 0, 0, 0, 0, 0]).reasons == (Reason("person", "not confirmed"),)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("nan_state", 1), "state: not finite"),
        (Fault("late", 1, 0.5), "state: 0.50 s old"),
        (Fault("reflex", 2), "arm: reflex"),
    ],
)
def test_a_bad_state_moves_nothing_until_recovered(fault, reason):
    arm, _ = safe(arm=FakeArm(faults=(fault,)))
    assert not arm.send([0.01, 0, 0, 0, 0, 0, 0]).refused
    arm.arm.steps = 2
    sent = arm.send([0.01, 0, 0, 0, 0, 0, 0])
    assert sent.refused
    assert reason in str(sent.reasons[0])
    arm.recover()
    assert not arm.send([0.01, 0, 0, 0, 0, 0, 0]).refused


def test_a_trip_latches_until_a_person_recovers():
    arm, _ = safe()
    arm.trip("camera: no frame for 0.3 s")
    assert arm.arm.stopped
    assert arm.send(np.zeros(7)).reasons == (Reason("latched", "camera: no frame for 0.3 s"),)
    arm.recover()
    assert not arm.send(np.zeros(7)).refused


def test_the_gripper_keeps_what_it_was_told():
    arm, _ = safe(arm=FakeArm(object_width_m=0.044))
    arm.send([0, 0, 0, 0, 0, 0, 1])
    assert arm.state().holding
    assert arm.send([0, 0, 0.02, 0, 0, 0, 0]).target[6] == 1.0
    assert arm.send([0, 0, 0, 0, 0, 0, -1]).target[6] == 0.0
    assert not arm.state().holding


def test_speed_caps_the_step_of_a_driver_that_does_not_wait():
    arm, _ = safe(config={"step_s": 0.25, "max_speed_m_s": 0.1})
    assert arm.send([0.075, 0, 0, 0, 0, 0, 0]).action[0] == pytest.approx(0.025)


def test_out_of_reach_is_refused_even_inside_a_wrongly_large_box():
    big = {"flange_high_m": [2, 2, 2], "tip_high_m": [2, 2, 2]}
    arm, _ = safe(config=big)
    reasons = [arm.send([0.075, 0, 0, 0, 0, 0, 0]).reasons for _ in range(12)]
    assert any(r.kind in ("reach", "joints") for row in reasons for r in row)
    assert np.isfinite(arm.state().q).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_torque_nm": 40},
        {"gripper_force_n": 60},
        {"tip_low_m": [1, 1, 1]},
        {"margin_m": -0.001},
        {"margin_m": 0.05},
        {"contact_n": -1},
        {"contact_n": 20},
        {"contact_n": 12, "max_force_n": 10},
        {"slow_zone_m": -0.01},
        {"slow_m_s": 0},
        {"slow_m_s": 2.0},
        {"on_violation": "warn"},
        {"max_step": 0.1},
        {"flange_low_m": [0, 0]},
    ],
)
def test_a_config_without_sense_is_an_error(wrong):
    with pytest.raises(ConfigError):
        SafetyConfig.read(wrong)


def extreme_action(rng):
    kind = rng.integers(5)
    action = rng.uniform(-0.1, 0.1, 7)
    if kind == 1:
        action = rng.normal(0, 10 ** rng.uniform(-3, 6), 7)
    elif kind == 2:
        action[rng.integers(7)] = rng.choice([np.nan, np.inf, -np.inf])
    elif kind == 3:
        action = rng.choice([-0.075, 0, 0.075], 7) * 5
    elif kind == 4:
        action[:3] = rng.choice([-1, 1], 3) * 0.075
    return action


@pytest.mark.parametrize("seed", range(8))
def test_random_extreme_and_nan_commands(seed):
    """10,000 in all; benchmarks/robot_safety.py drives them over the protocol."""
    arm, log = safe()
    rng = np.random.default_rng(seed)
    for i in range(1250):
        jump = i % 97 == 0
        sent = arm.send_pose(rng.normal(0, 1, 7)) if jump else arm.send(extreme_action(rng))
        assert np.abs(target_outside_m(arm.config, sent.target)).max() < 1e-6
        assert np.abs(outside_m(arm.config, arm.state().state)).max() == 0.0
        assert np.abs(sent.action[:3]).max() <= 0.075 + 1e-9
        assert np.abs(sent.action[3:6]).max() <= 0.15 + 1e-9
    assert {r["n"] for r in rows(log)} == set(range(1250))
    assert all(r["reasons"] for r in rows(log) if r["refused"])


def test_the_log_is_enough_to_judge_every_command_again():
    arm, log = safe()
    rng = np.random.default_rng(1)
    for _ in range(60):
        arm.send(extreme_action(rng))
    again = Limits(arm.config, Kinematics())
    checked = 0
    for row in rows(log):
        if row["base"] is None:
            continue
        asked, base, q = (np.array(row[name]) for name in ("asked", "base", "q"))
        sent = again.judge(row["kind"], asked, base, row["closed"], q)
        if row["allowed"] is None:
            assert sent.refused
            continue
        np.testing.assert_array_equal(sent.target, row["allowed"])
        np.testing.assert_array_equal(sent.action, row["sent"])
        checked += 1
    assert checked > 20


def test_targets_keep_the_margin_and_the_table_its_clearance():
    config = SafetyConfig(margin_m=0.005, clearance_m=0.02)
    state = FakeArm().state().state
    state[0] = config.flange_high_m[0] - 0.001
    assert np.abs(outside_m(config, state)).max() == 0.0
    np.testing.assert_allclose(target_outside_m(config, state)[0], -0.004, atol=1e-9)
    state = FakeArm().state().state
    state[2] -= tips_m(state)[:, 2].min() - 0.012  # 12 mm over the table
    assert np.abs(outside_m(config, state)).max() == 0.0
    np.testing.assert_allclose(target_outside_m(config, state)[2], 0.008, atol=1e-9)


def test_a_rotation_that_sweeps_the_fingers_out_of_the_box_is_left_out():
    limits = Limits(SafetyConfig())
    base = FakeArm().state().state
    base[2] -= tips_m(base)[:, 2].min() - 0.002
    up_and_turned = base + np.array([0, 0, 0.03, 0.15, 0, 0, 0])
    target, reasons = limits.allow(base, up_and_turned, np.zeros(7))
    assert "sweep" in reasons[0].text
    np.testing.assert_allclose(target[3:6], base[3:6], atol=1e-9)
    assert target[2] > base[2] + 0.02


def test_a_rotation_sweeps_over_half_of_the_margin_at_most():
    """At both ends of the step the fingers are inside; between them they would not be."""
    config = SafetyConfig(margin_m=0.005)
    base = FakeArm().state().state
    base[2] += config.tip_low_m[2] + 0.0051 - tips_m(base)[:, 2].min()
    for turn, left_out in ((0.03, False), (0.07, True)):
        wanted = base + np.array([0, 0, 0.02, turn, 0, 0, 0])
        swept = np.concatenate([base[:3], wanted[3:]])
        past = float(np.abs(target_outside_m(config, swept)).max())
        assert (past > 0.0025) == left_out, past
        assert np.abs(outside_m(config, swept)).max() == 0.0
        target, reasons = Limits(config).allow(base, wanted, np.zeros(7))
        assert any("sweep" in r.text for r in reasons) == left_out
        assert (abs(target[3] - base[3]) < 1e-9) == left_out


def test_the_hand_tilts_so_far_and_no_further():
    """Upside down its body would touch the table, with flange and fingertips in their boxes."""
    arm, _ = safe(config={"max_tilt_rad": 0.4})
    reasons = [arm.send([0, 0, 0, 0.15, 0, 0.1, 0]).reasons for _ in range(8)]
    assert any(r.kind == "tilt" for row in reasons for r in row)
    assert 0.2 < tilt_rad(arm.state().state) <= 0.41
    before = tilt_rad(arm.commanded)
    arm.send([0, 0, 0, -0.15, 0, 0, 0])
    assert tilt_rad(arm.commanded) < before - 0.05  # back is always allowed


class Stubborn(FakeArm):
    """Finds no joints for anything."""

    def send_pose(self, target):
        self.solver.high = self.solver.low = self.q
        return super().send_pose(target)


TOUCHED = Reason("contact", "11 N, 15.0 mm short")


class Touching(FakeArm):
    """Meets something half way."""

    def send_pose(self, target):
        start = self.state().state
        half = np.append((start[:6] + np.asarray(target)[:6]) / 2, target[6])
        super().send_pose(half)
        sent = super().send_pose(half)
        return replace(sent, target=np.asarray(target), reasons=(TOUCHED,), ended=half)


def test_after_contact_the_next_step_counts_from_where_the_motion_was_told_to_end():
    arm = Touching()
    log = io.StringIO()
    layer = SafeArm(arm, SafetyConfig(), execute=True, log=log)
    start = arm.state().state
    sent = layer.send([0.03, 0, 0, 0, 0, 0, 0])
    assert sent.reasons == (TOUCHED,)
    assert sent.target[0] == pytest.approx(start[0] + 0.03)  # what was sent
    assert sent.ended[0] == pytest.approx(start[0] + 0.015)
    assert layer.send([0.02, 0, 0, 0, 0, 0, 0]).target[0] == pytest.approx(start[0] + 0.035)
    assert layer.counts["contact"] == 2
    assert [row["n"] for row in map(json.loads, log.getvalue().splitlines())] == [0, 0, 1, 1]


def test_what_the_arms_own_solver_refuses_is_a_refusal_and_logged():
    arm, log = safe(arm=Stubborn())
    before = arm.commanded.copy()
    sent = arm.send([0.05, 0, 0, 0, 0, 0, 0])
    assert sent.refused
    assert sent.reasons[-1].kind == "reach"
    np.testing.assert_array_equal(arm.commanded, before)
    assert [(r["n"], r["refused"]) for r in rows(log)] == [(0, False), (0, True)]


@pytest.mark.parametrize("name", ["franka", "twin"])
def test_the_limits_in_the_repository_are_valid(name):
    file = importlib.resources.files("configs") / "robot" / f"{name}.yaml"
    config = SafetyConfig.read(OmegaConf.to_container(OmegaConf.create(file.read_text())))
    assert np.abs(target_outside_m(config, FakeArm().state().state)).max() == 0
