"""The scene behind libfranka's protocol begins, looks and is judged as the plain environment."""

import numpy as np
import pytest

pytest.importorskip("franky_sim")

import envs
from envs.errors import EnvError
from envs.twin import Twin


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
    assert [goal.name for goal in twin.reset(3, "one")] == ["placed"]


def test_one_shape_only():
    with pytest.raises(EnvError, match="one object shape"):
        Twin("reach", objects=("cube", "cup"))
