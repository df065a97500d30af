"""`benchmarks/squeezed_scenes.py`: the fingers tell where objects are."""

from pathlib import Path

import numpy as np
import pytest

from envs.arm_env import ArmEnv
from envs.layout import ARM_HIGH_M, ARM_LOW_M

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def squeezed_scenes(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import squeezed_scenes

    return squeezed_scenes


def test_two_squeezes_tell_where_cubes_are_and_the_arm_is_at_a_start_pose_after_them(
    squeezed_scenes,
):
    env = ArmEnv("two_objects", image_size=32, objects=("cube",))
    poses_L4 = squeezed_scenes.Squeezer(env).label(6_500_000)
    true_L2 = np.array([item.position_m[:2] for item in env.items])
    tcp_m, open_width_m = env.tcp_m, env.arm.width_m
    env.close()
    np.testing.assert_allclose(poses_L4[:2, :2], true_L2, atol=0.003)
    assert np.isnan(poses_L4[:2, 3]).all()
    assert np.isnan(poses_L4[2:]).all()
    assert (np.array(ARM_LOW_M) - 0.005 <= tcp_m).all()
    assert (tcp_m <= np.array(ARM_HIGH_M) + 0.005).all()
    assert open_width_m == pytest.approx(0.08, abs=0.002)


def test_one_squeeze_tells_yaw_and_place_across_the_fingers_of_a_long_object(squeezed_scenes):
    env = ArmEnv("pick_place", image_size=32, objects=("long_box",))
    poses_L4 = squeezed_scenes.Squeezer(env).label(6_500_001)
    x, y, _, yaw = env.items[0].label
    env.close()
    assert poses_L4[0, 1] == pytest.approx(y, abs=0.003)
    assert poses_L4[0, 0] == pytest.approx(x, abs=squeezed_scenes.AIM_M + 0.002)
    assert poses_L4[0, 3] == pytest.approx(yaw, abs=0.05)


def test_fingers_that_close_on_nothing_tell_nothing(squeezed_scenes, monkeypatch):
    env = ArmEnv("pick_place", image_size=32, objects=("cube",))
    squeezer = squeezed_scenes.Squeezer(env)
    squeeze = squeezer._squeeze_twice

    def miss(item, aim_m):
        return squeeze(item, aim_m + np.array([0.0, -0.15 * np.sign(aim_m[1])]))

    monkeypatch.setattr(squeezer, "_squeeze_twice", miss)
    found = squeezer.label(6_500_002)
    env.close()
    assert found is None
