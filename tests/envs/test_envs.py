import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs.config import OBJECTS
from envs.errors import RenderingError, TaskError, UnreachableError
from envs.expert import WayPoint, grasp_points, run_expert
from envs.rendering import open_context
from envs.tasks import ONE_IMAGE
from robot.pose import apply_action

TASKS = list(envs.IDS)


@pytest.fixture(scope="module", params=TASKS)
def env(request):
    made = envs.make(request.param, image_size=64)
    yield made
    made.close()


def test_gymnasiums_checker(env):
    check_env(env, skip_render_check=True)


def test_same_seed_same_pictures_and_states(env):
    first, _ = env.reset(seed=3)
    action = np.array([0.03, 0.02, -0.01, 0, 0, 0, 0], np.float32)
    then = env.step(action)[0]
    again, _ = env.reset(seed=3)
    assert (first["image"] == again["image"]).all()
    assert (env.step(action)[0]["image"] == then["image"]).all()
    other, _ = env.reset(seed=4)
    assert (first["image"] != other["image"]).any()


@pytest.mark.parametrize("shape", OBJECTS)
def test_fingers_stop_at_the_drawn_objects_faces_and_contacts_do_not_flicker(shape):
    env = envs.make("grasp", image_size=32, objects=(shape,)).unwrapped
    sizes = []
    for seed in (1, 2):
        env.reset(seed=seed)
        across = int(shape in ("box", "long_box", "T", "L"))
        half = env.model.geom_size[env.model.geom("object").id][across]
        sizes.append(env.items[0].scale)
        env.solve(1)
        contacts = set()
        for _ in range(100):
            mujoco.mj_step(env.model, env.data)
            contacts.add(int(env.data.ncon))
        assert env.data.qpos[7:9].sum() == pytest.approx(2 * half, abs=4e-4)
        assert len(contacts) == 1
    assert min(sizes) < 1 < max(sizes)  # a larger and a smaller one than was compiled
    env.close()


def test_starts_do_not_already_succeed(env):
    assert not any(env.reset(seed=s)[1]["success"] for s in range(5))


def test_goal_pictures_leave_the_world_as_it_was(env):
    seen, _ = env.reset(seed=5)
    before = env.data.qpos.copy()
    goals = env.sub_goals()
    assert (env.data.qpos == before).all()
    assert (env.render() == seen["image"]).all()
    assert all((g.image != seen["image"]).any() for g in goals)


def test_the_expert_solves_every_task(env):
    episodes = 3 if env.task.name in ONE_IMAGE else 12
    solved = 0
    for seed in range(episodes):
        env.reset(seed=seed)
        env.solve()
        solved += env.success()
    assert solved == episodes


def test_ids_are_registered_and_vectorise():
    envs.register()
    vector = gymnasium.make_vec("FrankaReach-v0", 2, vectorization_mode="sync", image_size=32)
    seen, _ = vector.reset(seed=1)
    assert seen["image"].shape == (2, 32, 32, 3)
    vector.close()


def test_a_held_cube_survives_a_vertical_and_a_diagonal_lift():
    env = envs.make("pick_place", image_size=32)
    lost = 0
    for seed in range(20):
        env.reset(seed=seed)
        run_expert(env.arm, grasp_points(env.object_m))
        x, y, _ = env.tcp_m
        end = (x, y, 0.2) if seed % 2 else (x - 0.05, y + 0.1, 0.2)
        run_expert(env.arm, [WayPoint(end)])
        lost += not env.arm.holding()
    env.close()
    assert lost == 0


@pytest.mark.parametrize(
    ("split", "shape"), [("train", "cup"), ("train", "box"), ("held_out", "cylinder")]
)
def test_other_shapes_are_placed_at_the_first_try(split, shape):
    env = envs.make("pick_place", split=split, objects=[shape], image_size=32)
    solved, crept_m = 0, 0.0
    for seed in range(8):
        env.reset(seed=seed)
        grasp, rest = env.expert_points()[:3], env.expert_points()[3:]
        run_expert(env.arm, grasp)
        held_at = env.object_m - env.tcp_m
        run_expert(env.arm, rest[:2])
        crept_m = max(crept_m, float(np.abs(env.object_m - env.tcp_m - held_at)[:2].max()))
        run_expert(env.arm, rest[2:])
        solved += env.success()
    env.close()
    assert solved == 8
    assert crept_m < 0.003


def test_pick_place_sub_goals():
    env = envs.make("pick_place", image_size=32)
    env.reset(seed=0)
    names = [g.name for g in env.sub_goals()]
    assert names == ["grasped", "lifted", "above target", "placed"]
    assert [g.steps for g in env.sub_goals()] == [8, 4, 8, 6]
    assert [g.name for g in env.sub_goals("three")] == ["grasped", "above target", "placed"]
    assert len(env.sub_goals("last")) == 1
    env.close()


@pytest.mark.parametrize(("task", "names"), [("push", "pushed"), ("grasp", "grasped")])
def test_a_task_without_a_lift_refuses_to_leave_it_out(task, names):
    env = envs.make(task, image_size=16)
    env.reset(seed=0)
    with pytest.raises(TaskError, match=f"sub-goals are .*{names}; allowed here: default, last"):
        env.sub_goals("three")
    assert env.sub_goals("last")[0].name == names
    env.close()


def test_push_goal_shows_the_arm_back_at_its_start():
    env = envs.make("push", image_size=32)
    seen, _ = env.reset(seed=0)
    (goal,) = env.sub_goals()
    np.testing.assert_allclose(goal.state, seen["state"], atol=1e-5)
    env.close()


def test_held_out_looks_differ():
    pictures = []
    for split in ("train", "held_out"):
        env = envs.make("reach", split=split, image_size=32)
        pictures.append(env.reset(seed=0)[0]["image"])
        env.close()
    assert (pictures[0] != pictures[1]).any()


def test_the_arm_goes_where_it_is_sent():
    env = envs.make("reach", image_size=32)
    env.reset(seed=1)
    for action in ([0.05, 0, 0, 0, 0, 0, 0], [0, -0.05, 0, 0, 0, 0, 0], [0, 0, 0.04, 0, 0, 0, 0]):
        before = env.arm.commanded.copy()
        env.arm.send(action)
        np.testing.assert_allclose(
            env.arm.state().state[:3], apply_action(before, action)[:3], atol=0.004
        )
    env.close()


def test_a_sent_rotation_is_reported_and_reached():
    env = envs.make("reach", image_size=32)
    env.reset(seed=1)
    start = env.arm.yaw_rad
    for _ in range(4):
        sent = env.arm.send([0, 0, 0, 0, 0, 0.15, 0])
        np.testing.assert_allclose(sent.action, [0, 0, 0, 0, 0, 0.15, 0], atol=1e-6)
    assert env.arm.yaw_rad - start == pytest.approx(0.6, abs=0.02)
    env.close()


def test_the_arm_stays_in_its_box_and_says_so():
    env = envs.make("reach", image_size=32)
    env.reset(seed=1)
    sent = [env.arm.send([0, 0, -0.075, 0, 0, 0, 0]) for _ in range(6)]
    assert "box" in {reason.kind for reason in sent[-1].reasons}
    assert env.tcp_m[2] > 0
    env.close()


def test_wrong_names_list_the_right_ones():
    with pytest.raises(TaskError, match="reach, grasp"):
        envs.make("fetch")
    with pytest.raises(TaskError, match="cube"):
        envs.make("reach", objects=["ball"])
    with pytest.raises(TaskError, match="held_out"):
        envs.make("reach", split="test")


def test_nan_action_is_refused():
    env = envs.make("reach", image_size=32)
    env.reset(seed=0)
    with pytest.raises(UnreachableError, match="finite"):
        env.arm.send([np.nan] * 7)
    env.close()


def test_no_renderer_says_how_to_get_one(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "missing")
    with pytest.raises(RenderingError, match="apt-get install"):
        open_context(8, 8)
