"""The scene behind libfranka's protocol begins, looks and is judged as the plain environment."""

import numpy as np
import pytest

pytest.importorskip("franky_sim")

import envs
from envs.errors import EnvError
from envs.twin.server import HEAD, TableSimulator
from envs.twin.twin import Twin


@pytest.fixture(scope="module")
def twin():
    with Twin("pick_place") as twin:
        yield twin


def test_starts_goals_and_pictures_are_those_of_the_environment(twin):
    plain = envs.make("pick_place")
    for seed in (3, 1_000_007):
        goals = twin.reset(seed)
        seen, info = plain.reset(seed=seed)
        for ours, theirs in zip(goals, plain.unwrapped.sub_goals(), strict=True):
            assert (ours.name, ours.steps) == (theirs.name, theirs.steps)
            np.testing.assert_array_equal(ours.image, theirs.image)
        served = twin.info(closed=False)
        np.testing.assert_allclose(served["object_m"], info["object_m"], atol=1e-3)
        np.testing.assert_allclose(served["tcp_m"], info["tcp_m"], atol=2e-3)
        np.testing.assert_allclose(served["target_m"], info["target_m"], atol=1e-9)
        assert served["success"] == info["success"]
        picture = twin.camera.read().image
        assert picture.shape == (128, 128, 3)
        # the served arm sags by parts of a millimetre while it is placed
        assert np.abs(picture.astype(int) - seen["image"]).mean() < 1.0
    plain.close()


def test_sub_goal_variants(twin):
    assert [goal.name for goal in twin.reset(3, "three")] == ["grasped", "above target", "placed"]
    assert [goal.name for goal in twin.reset(3, "last")] == ["placed"]


def test_one_shape_only():
    with pytest.raises(EnvError, match="one object shape"):
        Twin("reach", objects=("cube", "cup"))


def widths_m(speed_m_s, milliseconds, width_m=0.0):
    """Distance of the fingers, each millisecond after an order; the arm hangs in the air."""
    simulator = TableSimulator(("cube",), False, 32, [0.0] * (HEAD + 16))
    simulator.init()
    simulator.start()
    simulator.robot.set_hand_goal(width_m, speed_m_s, 20.0)
    found = []
    for _ in range(milliseconds):
        simulator.robot.joint_position_control(simulator.robot.initial_q)
        simulator.step()
        found.append(float(simulator.data.qpos[7:9].sum()))
    return np.array(found)


@pytest.mark.parametrize("speed_m_s", [0.02, 0.1])
def test_fingers_have_the_speed_that_was_asked_for(speed_m_s):
    found = widths_m(speed_m_s, 600)
    took = (np.argmax(found < 0.072) - np.argmax(found < 0.076)) / 1000
    assert 0.004 / took == pytest.approx(speed_m_s, rel=0.1)


def test_fingers_are_no_faster_than_the_makers():
    found = widths_m(5.0, 1000)
    assert -np.diff(found).min() < 0.1 * 1.15 / 1000
    assert found[-1] == pytest.approx(0.0, abs=0.002)


@pytest.mark.parametrize("task", ["two_objects", "over_wall"])
def test_scenes_of_one_image_tasks_are_served_whole(task):
    plain = envs.make(task, image_size=64)
    with Twin(task, image_size=64) as served:
        (goal,) = served.reset(5)
        seen, info = plain.reset(seed=5)
        np.testing.assert_array_equal(goal.image, plain.sub_goals()[0].image)
        found = served.info(closed=False)
        np.testing.assert_allclose(found["objects"][:, :3], info["objects"][:, :3], atol=2e-3)
        assert np.abs(served.render().astype(int) - seen["image"]).mean() < 1.0
    plain.close()
