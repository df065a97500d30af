"""Rules of the tasks at their edges, and where starts and goals are drawn."""

import numpy as np
import pytest

import envs
from envs.errors import TaskError
from envs.layout import CLEARANCE_M, Clutter, is_visible
from envs.shapes import SHAPES, nearest_grip_yaw, yaw_difference
from envs.starts import draw_clutter, draw_layout
from envs.tasks import ONE_IMAGE, STILL_M, TASKS, ObjectError, succeeded

FAR = np.full(3, 9.0)


def judge(name, *errors, closed=False):
    return succeeded(
        TASKS[name], tcp_m=np.zeros(3), goal_tcp_m=FAR, errors=errors, holding=False, closed=closed
    )


def error(distance_m=0.0, degrees=0.0, resting=True):
    return ObjectError(distance_m=distance_m, yaw_rad=np.radians(degrees), resting=resting)


@pytest.mark.parametrize(
    ("name", "near_m", "degrees"),
    [("push_pose", 0.03, 15.0), ("over_wall", 0.04, 180.0), ("push", 0.04, 180.0)],
)
def test_one_object_at_the_edge_of_its_rule(name, near_m, degrees):
    assert judge(name, error(near_m - 1e-6, degrees - 1e-6))
    assert judge(name, error(near_m - 1e-6), closed=True)
    assert not judge(name, error(near_m + 1e-6))
    assert not judge(name, error(resting=False))
    if degrees < 180:
        assert not judge(name, error(0.0, degrees + 1e-6))


def test_pick_place_asks_for_an_open_gripper():
    assert judge("pick_place", error(0.039))
    assert not judge("pick_place", error(0.039), closed=True)


def test_the_other_object_has_to_stay_but_a_distractor_may_move():
    moved, stayed = error(STILL_M + 1e-6), error(STILL_M - 1e-6)
    assert judge("two_objects", error(0.039), stayed)
    assert not judge("two_objects", error(0.039), moved)
    assert judge("two_objects", error(0.039), stayed, error(0.5))
    assert judge("push", error(0.039), error(0.5))


def test_sorting_asks_for_all_three():
    assert judge("sort", error(0.039), error(0.039), error(0.039))
    for wrong in range(3):
        errors = [error(0.041 if i == wrong else 0.0) for i in range(3)]
        assert not judge("sort", *errors)


@pytest.mark.parametrize("name", ONE_IMAGE)
def test_starts_and_targets_have_room_and_are_seen(name):
    task = TASKS[name]
    shape = SHAPES[task.objects[0]]
    radius = shape.radius_m * 0.024 / 0.022
    for seed in range(40):
        rng = np.random.default_rng(seed)
        layout = draw_layout(task, [radius] * task.num_objects, rng)
        places = [*layout.objects_m, *layout.targets_m[: task.num_moving]]
        assert (np.abs(np.array(places) - [0.51, 0.0]).max(axis=0) < [0.1101, 0.2001]).all()
        if task.num_objects > 1:
            gaps = [np.linalg.norm(a - b) for i, a in enumerate(places) for b in places[:i]]
            assert min(gaps) > 2 * radius + CLEARANCE_M
            assert layout.targets_m[task.num_moving :] == layout.objects_m[task.num_moving :]
        if name == "push_pose":
            turn = abs(layout.target_yaws_rad[0] - layout.yaws_rad[0])
            assert np.radians(30) <= turn <= np.radians(90)
            assert 0.05 <= np.linalg.norm(places[1] - places[0]) <= 0.15
        if layout.wall is not None:
            wall = layout.wall
            assert 0.07 <= wall.height_m <= 0.15
            assert all(
                wall.distance_m(place) > radius and is_visible(wall, place) for place in places
            )
            start, end = wall.to_local(np.array(places))
            assert start[0] * end[0] < 0  # the wall is between them


def test_clutter_has_the_shares_that_were_asked_for():
    clutter = Clutter(objects_per_scene=(0.5, 0.3, 0.2), walls=0.4, turned=0.5)
    rng = np.random.default_rng(0)
    drawn = [clutter.draw_composition(("cube", "T"), rng) for _ in range(2000)]
    counts = np.bincount([len(shapes) for shapes, _ in drawn], minlength=4)[1:] / 2000
    np.testing.assert_allclose(counts, [0.5, 0.3, 0.2], atol=0.04)
    single = [wall for shapes, wall in drawn if len(shapes) == 1]
    assert np.mean(single) == pytest.approx(0.4, abs=0.05)
    assert not any(wall for shapes, wall in drawn if len(shapes) > 1)
    layouts = [draw_clutter(clutter, [0.03, 0.07], False, rng) for _ in range(100)]
    yaws = np.array([layout.yaws_rad for layout in layouts])
    assert 0.35 < np.mean(yaws != 0) < 0.65


@pytest.mark.parametrize("shares", [(), (0.5,), (0.5, 0.6), (-0.5, 1.5), (0.25,) * 4])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(TaskError, match="objects_per_scene"):
        Clutter(objects_per_scene=shares)


@pytest.mark.parametrize("shape", SHAPES.values())
def test_yaws_are_compared_modulo_the_shapes_symmetry(shape):
    rng = np.random.default_rng(0)
    period = shape.yaw_period_rad
    for a, b in rng.uniform(-7, 7, (50, 2)):
        off = yaw_difference(a, b, period)
        assert 0 <= off <= period / 2 + 1e-9
        assert yaw_difference(b, a, period) == pytest.approx(off, abs=1e-9)
        assert yaw_difference(a + period, b, period) == pytest.approx(off, abs=1e-9)
        grip = nearest_grip_yaw(a, period, b)
        assert abs(grip - b) <= min(period, np.pi) / 2 + 1e-9
        assert yaw_difference(grip, a, min(period, np.pi)) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("name", ["pick_place", "push", *ONE_IMAGE])
def test_one_image_shows_the_objects_at_their_targets_and_the_arm_at_its_start(name):
    env = envs.make(name, image_size=32)
    seen, _ = env.reset(seed=2)
    (goal,) = env.sub_goals("one")
    np.testing.assert_allclose(goal.state, seen["state"], atol=1e-5)
    layout = env.layout
    moving = range(env.task.num_moving)
    for i in moving:
        env.items[i].put(layout.targets_m[i], layout.target_yaws_rad[i])
    assert (env.render() == goal.image).all()
    assert env.success()
    env.close()


def test_too_many_or_too_large_objects_are_refused():
    with pytest.raises(TaskError, match="smaller"):
        draw_layout(TASKS["sort"], [0.12] * 3, np.random.default_rng(0))
    with pytest.raises(TaskError, match="moves one object"):
        envs.make("sort", factor="play_goal")
    with pytest.raises(TaskError, match="clutter"):
        envs.make("push", factor="light", clutter=Clutter(walls=1.0))
