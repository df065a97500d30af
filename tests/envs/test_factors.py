"""Every factor changes what it says, and the start and the goal stay the same."""

import numpy as np
import pytest

import envs
from envs.config import FACTORS
from envs.errors import TaskError

SAME_SCENE = ("object_color", "object_size", "table_texture", "light", "camera", "distractor")


@pytest.fixture(scope="module")
def plain():
    env = envs.make("push_pose", image_size=48)
    yield env
    env.close()


@pytest.mark.parametrize("factor", [name for name in FACTORS if name != "none"])
def test_one_factor_changes_and_the_start_stays(plain, factor):
    env = envs.make("push_pose", image_size=48, factor=factor)
    for seed in (4, 5):
        usual, usual_info = plain.reset(seed=seed)
        seen, info = env.reset(seed=seed)
        np.testing.assert_allclose(info["tcp_m"], usual_info["tcp_m"], atol=1e-6)
        np.testing.assert_allclose(info["object_m"][:2], usual_info["object_m"][:2], atol=2e-3)
        if factor != "play_goal":
            np.testing.assert_allclose(info["target_m"][:2], usual_info["target_m"][:2])
        if factor in SAME_SCENE:
            assert (seen["image"] != usual["image"]).any()
        again, _ = env.reset(seed=seed)
        assert (again["image"] == seen["image"]).all()
    env.close()


def test_mass_and_friction_change_by_known_factors_and_do_not_add_up():
    env = envs.make("push", image_size=32, factor="mass_friction")
    nominal = env.world.nominal
    body, table = env.items[0].body, env.model.geom("table").id
    for seed in range(4):
        env.reset(seed=seed)
        assert env.model.body_mass[body] / nominal.body_mass[body] in (0.5, 2.0)
        ratio = env.model.geom_friction[table, 0] / nominal.geom_friction[table, 0]
        assert ratio == pytest.approx(0.6) or ratio == pytest.approx(1.5)
    env.close()


def test_a_slow_gripper_takes_more_than_one_step_and_the_expert_waits():
    env = envs.make("pick_place", image_size=32, factor="gripper_speed")
    env.reset(seed=0)
    env.arm.send([0, 0, 0, 0, 0, 0, 1.0])
    assert env.arm.is_hand_moving
    env.reset(seed=0)
    env.solve()
    assert env.success()
    env.close()


def test_a_goal_from_play_is_the_state_that_play_reached():
    env = envs.make("pick_place", image_size=32, factor="play_goal")
    seen, info = env.reset(seed=1)
    goals = [env.sub_goals(variant) for variant in ("default", "one")]
    assert [len(found) for found in goals] == [1, 1]
    assert (goals[0][0].image != seen["image"]).any()
    assert np.linalg.norm(info["target_m"][:2] - info["object_m"][:2]) > 0.04
    assert (env.render() == seen["image"]).all()
    env.close()


@pytest.mark.parametrize(("task", "factor"), [("two_objects", "play_goal"), ("sort", "distractor")])
def test_a_factor_that_a_task_cannot_have_is_refused_before_any_episode(task, factor):
    with pytest.raises(TaskError, match=f"factor={factor} needs a task .*, not {task}"):
        envs.make(task, image_size=32, factor=factor)
