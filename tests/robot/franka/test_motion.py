"""Which way an arm takes, how fast, and what ends it."""

import numpy as np
import pytest

from robot.franka.motion import Pace, contact_reason, make_motion, speed_scale, split_motion

PACE = Pace(0.2, 0.3, 0.04)


def pose(x, z):
    made = np.diag([1.0, -1.0, -1.0, 1.0])
    made[:3, 3] = x, 0.0, z
    return made


def test_only_the_way_down_near_the_table_is_slow():
    high, low = pose(0.5, 0.12), pose(0.58, 0.02)
    (above, first), (end, second) = split_motion(high, low, PACE)
    assert (first, second) == (False, True)
    assert above[2, 3] == pytest.approx(0.04)
    assert above[0, 3] == pytest.approx(0.5 + 0.08 * 0.8)  # on the straight line
    assert end is low
    assert split_motion(low, high, PACE) == [(high, False)]
    assert split_motion(pose(0.5, 0.043), low, PACE) == [(low, True)]
    assert split_motion(pose(0.5, 0.02), pose(0.55, 0.02), PACE)[0][1] is False
    over = pose(0.6, 0.05)
    assert split_motion(high, over, PACE) == [(over, False)]


def test_joints_that_go_far_slow_a_motion():
    start, there = pose(0.5, 0.2), pose(0.6, 0.2)
    pace = {"speed_m_s": 0.2, "turn_rad_s": 0.5, "joint_rad_s": 0.6}
    assert speed_scale(start, there, joints_rad=0.29, **pace) == 1.0  # 0.5 s: under 0.6 rad/s
    assert speed_scale(start, there, joints_rad=0.6, **pace) == pytest.approx(0.5)
    turned = start.copy()
    turned[:3, :3] = start[:3, :3] @ np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    assert speed_scale(start, turned, joints_rad=np.pi / 2, **pace) == 1.0  # pi s
    assert speed_scale(start, start, joints_rad=0.01, **pace) == 1.0
    assert speed_scale(start, start, joints_rad=0.3, **pace) == 0.05  # never stands still


def test_what_contact_has_to_say():
    assert contact_reason(pose(0.5, 0.02), pose(0.5, 0.0201), 12.0) is None
    reason = contact_reason(pose(0.5, 0.02), pose(0.5, 0.024), 12.4)
    assert str(reason) == "contact: 12 N, 4.0 mm short"


def test_motions_have_a_reaction_to_touch_unless_told_otherwise():
    pytest.importorskip("franky")
    high, low = pose(0.5, 0.12), pose(0.5, 0.02)
    motion = make_motion(high, low, PACE, 0.0, 10.0)
    factors = [w.relative_dynamics_factor for w in motion.waypoints]
    assert [f.velocity for f in factors] == pytest.approx([0.2, 0.06])
    assert [f.acceleration for f in factors] == pytest.approx([0.2, 0.2])
    assert len(motion.reactions) == 1
    assert not make_motion(high, low, PACE, 0.0, 0.0).reactions
