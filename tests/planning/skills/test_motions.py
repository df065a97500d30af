"""Skills end where their parameters say, within the limits of an action."""

import numpy as np
import pytest

from envs.contact_play import SkillScene
from planning.errors import PlanError
from planning.skills.motions import (
    HOME,
    PICK_PLACE,
    PUSH,
    PUSH_ON,
    REACH,
    REGRASP,
    SKILLS,
    get_skill,
)
from planning.skills.path import STEP_M, TURN_RAD, YAW_LIMIT_RAD, Context, join, nearest_grip
from planning.skills.play import KINDS, random_skill

HOME_TCP = np.array([0.5, 0.05, 0.2])


def context(**changes):
    base = {
        "tcp_m": np.array([0.48, -0.1, 0.18]),
        "yaw_rad": 0.2,
        "home_tcp_m": HOME_TCP,
        "home_yaw_rad": 0.1,
        "object_m": np.array([0.52, 0.03]),
    }
    return Context(**base | changes)


def play_scene(**facts):
    return SkillScene(**{"yaw_rad": 0.0, "closed": False, "home_yaw_rad": 0.0} | facts)


def draw(skill, seen, batch=64, seed=0):
    rng = np.random.default_rng(seed)
    low, high = np.array([(p.low, p.high) for p in skill.parameters(seen)]).reshape(-1, 2).T
    return rng.uniform(low, high, (batch, len(low)))


@pytest.mark.parametrize("name", SKILLS)
@pytest.mark.parametrize("known", [True, False])
def test_actions_stay_within_the_limits_and_add_up_to_the_end(name, known):
    seen = context() if known else context(object_m=None)
    skill = SKILLS[name]
    out = skill.expand(seen, draw(skill, seen))
    actions, lengths = out.actions_BKA, out.lengths_B
    assert actions.dtype == np.float32
    assert np.abs(actions[..., :3]).max() <= STEP_M + 1e-6
    assert np.abs(actions[..., 5]).max() <= TURN_RAD + 1e-6
    assert not actions[..., 3:5].any()
    assert set(np.unique(actions[..., 6])) <= {-1.0, 0.0, 1.0}
    beyond = np.arange(actions.shape[1]) >= lengths[:, None]
    assert not actions[beyond].any()
    assert lengths.max() == actions.shape[1]
    path = seen.tcp_m + np.cumsum(actions[..., :3].astype(np.float64), axis=1)
    assert (path >= np.array(seen.low_m) - 1e-6).all()
    assert (path <= np.array(seen.high_m) + 1e-6).all()
    np.testing.assert_allclose(path[:, -1], out.end.tcp_m, atol=1e-5)
    np.testing.assert_allclose(seen.yaw_rad + actions[..., 5].sum(1), out.end.yaw_rad, atol=1e-5)
    assert np.abs(np.asarray(out.end.yaw_rad) - seen.home_yaw_rad).max() <= YAW_LIMIT_RAD + 0.11
    assert (out.executed_B <= lengths).all()
    assert (out.contact_B <= out.last_B).all() or name == "reach"
    assert (out.last_B <= lengths).all()


@pytest.mark.parametrize("name", SKILLS)
def test_a_batch_equals_its_samples(name):
    seen, skill = context(), SKILLS[name]
    params = draw(skill, seen, 7, seed=1)
    batch = skill.expand(seen, params)
    for i, row in enumerate(params):
        one = skill.expand(seen, row[None])
        count = int(batch.lengths_B[i])
        assert one.lengths_B[0] == count
        np.testing.assert_array_equal(one.actions_BKA[0], batch.actions_BKA[i, :count])


def test_a_push_strokes_along_its_direction_beside_the_object():
    seen = context()
    v = np.array([0.06, -0.08])
    out = PUSH.expand(seen, [[*v, 0.01, 0.06, 0.0, 0.09]])
    path = seen.tcp_m + np.cumsum(out.actions_BKA[0, :, :3].astype(float), axis=0)
    before, after = int(out.contact_B[0]), int(out.last_B[0])
    stroke = path[after] - path[before - 1]
    np.testing.assert_allclose(
        stroke[:2] / np.linalg.norm(stroke), v / np.linalg.norm(v), atol=1e-5
    )
    np.testing.assert_allclose(np.linalg.norm(stroke), 0.06 - 0.032 + 0.1, atol=1e-5)
    behind = path[before - 1][:2] - seen.object_m
    across = np.array([-v[1], v[0]]) / np.linalg.norm(v)
    np.testing.assert_allclose([behind @ v / 0.1, behind @ across], [-0.06, 0.01], atol=1e-5)
    np.testing.assert_allclose(path[before - 1 : after + 1, 2], 0.02, atol=1e-5)
    assert out.end.closed.all()
    np.testing.assert_allclose(out.end.object_m[0], seen.object_m + v)


def test_a_pick_and_place_carries_and_turns_by_what_was_asked():
    seen = context()
    params = draw(PICK_PLACE, seen, 200)
    params[:, :2] *= 0.3
    params[:, 4] *= 0.3
    out = PICK_PLACE.expand(seen, params)
    for i in range(len(params)):
        actions = out.actions_BKA[i].astype(float)
        closing, opening = (actions[:, 6] == 1).argmax(), int(out.last_B[i])
        assert actions[opening, 6] == -1
        carried = actions[closing : opening + 1].sum(axis=0)
        np.testing.assert_allclose(carried[:2], params[i, :2], atol=1e-5)
        np.testing.assert_allclose(carried[5], params[i, 4], atol=1e-5)
        lifted = np.cumsum(actions[closing:opening, 2]).max()
        np.testing.assert_allclose(lifted, params[i, 5], atol=1e-5)
        grip_yaw = seen.yaw_rad + actions[:closing, 5].sum() - seen.home_yaw_rad - params[i, 3]
        np.testing.assert_allclose(np.sin(grip_yaw), 0, atol=1e-5)  # equal up to half a turn
    assert not out.end.closed.any()


def test_defaults_keep_the_yaw_and_a_low_lift():
    seen = context(yaw_rad=0.1)
    for skill in (PUSH, PICK_PLACE):
        out = skill.expand(seen, [skill.defaults(seen)])
        assert not out.actions_BKA[..., 5].any()
    path = np.cumsum(PICK_PLACE.expand(seen, [PICK_PLACE.defaults(seen)]).actions_BKA[0, :, 2])
    assert (path + seen.tcp_m[2])[2:].max() < 0.1


def test_a_regrasp_turns_on_the_table():
    seen = context()
    out = REGRASP.expand(seen, [[0.0, 0.3, 0.5]])
    path = seen.tcp_m[2] + np.cumsum(out.actions_BKA[0, :, 2])
    closing, opening = (out.actions_BKA[0, :, 6] == 1).argmax(), int(out.last_B[0])
    np.testing.assert_allclose(path[closing:opening], 0.022, atol=1e-5)
    np.testing.assert_allclose(out.actions_BKA[0, closing:opening, 5].sum(), 0.5, atol=1e-5)


def test_home_opens_and_returns_with_the_start_yaw():
    seen = context(tcp_m=np.array([0.55, -0.1, 0.02]), closed=True)
    out = HOME.expand(seen, np.zeros((1, 0)))
    np.testing.assert_allclose(out.end.tcp_m[0], HOME_TCP)
    np.testing.assert_allclose(out.end.yaw_rad, [0.1])
    assert out.actions_BKA[0, 0, 6] == -1
    at_home = context(tcp_m=HOME_TCP, yaw_rad=0.1)
    assert HOME.expand(at_home, np.zeros((1, 0))).lengths_B.tolist() == [0]


def test_joined_skills_start_where_the_first_one_ends():
    seen = context()
    first = PUSH.expand(seen, draw(PUSH, seen, 32))
    second = PICK_PLACE.expand(first.end, draw(PICK_PLACE, seen, 32, seed=3))
    both = join(first, second)
    assert (both.lengths_B == first.lengths_B + second.lengths_B).all()
    np.testing.assert_allclose(
        seen.tcp_m + both.actions_BKA[..., :3].astype(float).sum(1), both.end.tcp_m, atol=1e-5
    )
    assert (both.executed_B == first.executed_B).all()


def test_the_grip_that_needs_the_least_rotation_is_equivalent():
    yaw = np.linspace(-3, 3, 101)
    for turn in (-1.5, 0.0, 0.7):
        grip = nearest_grip(yaw, turn)
        np.testing.assert_allclose(np.sin(grip - yaw), 0, atol=1e-12)
        assert np.abs(grip + turn / 2).max() <= np.pi / 2 + 1e-9


def test_wrong_names_and_counts_are_refused():
    with pytest.raises(PlanError, match="push, push_on"):
        get_skill("shove")
    with pytest.raises(PlanError, match="it has 6: vx, vy"):
        PUSH.expand(context(), [[0.1, 0.0]])
    assert len(PUSH.parameters(context(object_m=None))) == 8
    assert len(PUSH_ON.parameters(context(object_m=None))) == 3
    assert len(REACH.parameters(context(object_m=None))) == 4


@pytest.mark.parametrize("name", SKILLS)
def test_variants_change_parameters_within_their_ranges(name):
    skill = SKILLS[name]
    ranges = {p.name: (p.low, p.high, p.mean) for p in skill.own}
    assert skill.variants[0] == {}
    for variant in skill.variants:
        for parameter, change in variant.items():
            low, high, mean = ranges[parameter]
            assert low <= mean + change <= high


def test_picks_of_scenes_with_targets_reach_them_and_grip_from_two_sides():
    scene = play_scene(
        tcp_m=HOME_TCP, home_tcp_m=HOME_TCP, objects=[(0.5, 0.1, 0.2)], targets=[(0.5, -0.1, 0.2)]
    )
    places, yaws, heights = [], [], []
    for seed in range(60):
        actions = random_skill("pick", scene, np.random.default_rng(seed)).astype(float)
        path, yaw = HOME_TCP + actions[:, :3].cumsum(axis=0), actions[:, 5].cumsum()
        closes = np.flatnonzero(actions[:, 6] > 0)[0]
        opens = closes + np.flatnonzero(actions[closes:, 6] < 0)[:1]
        if len(opens):
            places.append(path[opens[0], :2])
            yaws.append(abs(np.sin(yaw[closes] - 0.2)))
            heights.append(path[closes : opens[0], 2].max())
    near = np.linalg.norm(np.array(places) - [0.5, -0.1], axis=1) < 0.06
    assert 0.4 < near.mean() < 0.9
    assert 0.2 < (np.array(yaws) > 0.7).mean() < 0.7
    assert min(heights) < 0.12 < 0.2 < max(heights)


@pytest.mark.parametrize("kind", KINDS)
def test_random_skills_are_reproducible_and_within_the_limits(kind):
    scene = play_scene(
        tcp_m=np.array([0.5, 0.0, 0.05]),
        home_tcp_m=HOME_TCP,
        closed=True,
        objects=[(0.52, 0.03, 1.2), (0.45, -0.1, -0.4)],
    )
    for seed in range(40):
        actions = random_skill(kind, scene, np.random.default_rng(seed))
        again = random_skill(kind, scene, np.random.default_rng(seed))
        np.testing.assert_array_equal(actions, again)
        assert actions.dtype == np.float32
        assert 0 < len(actions) <= 60
        assert np.abs(actions[:, :3]).max() <= STEP_M + 1e-6
        assert np.abs(actions[:, 5]).max() <= TURN_RAD + 1e-6


def test_a_random_grasp_ends_closed_above_its_object():
    scene = play_scene(
        tcp_m=np.array([0.5, 0.0, 0.2]), home_tcp_m=HOME_TCP, objects=[(0.52, 0.03, 1.2)]
    )
    actions = random_skill("grasp", scene, np.random.default_rng(0))
    end = scene.tcp_m + actions[:, :3].astype(float).sum(axis=0)
    np.testing.assert_allclose(end[:2], [0.52, 0.03], atol=1e-5)
    np.testing.assert_allclose(np.sin(actions[:, 5].sum() - 1.2), 0, atol=1e-5)
    assert actions[actions[:, 6] != 0, 6][-1] == 1


def test_random_skills_refuse_what_they_cannot_do():
    empty = play_scene(tcp_m=HOME_TCP, home_tcp_m=HOME_TCP, objects=[])
    with pytest.raises(PlanError, match="the scene has none"):
        random_skill("push", empty, np.random.default_rng(0))
    with pytest.raises(PlanError, match="known: push, pick"):
        random_skill("fly", empty, np.random.default_rng(0))
