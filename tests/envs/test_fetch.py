"""Fetch of gymnasium-robotics as environments with goal images."""

import numpy as np
import pytest

pytest.importorskip("gymnasium_robotics")

from envs.collect_gym import record_gym_episode
from envs.config import CollectConfig
from envs.fetch import MAX_STEP_M, FetchPickPlace, FetchPush


@pytest.mark.parametrize(("kind", "seed"), [(FetchPush, 1), (FetchPickPlace, 2)])
def test_the_expert_reaches_the_goal_that_the_picture_shows(kind, seed):
    env = kind(image_size=64)
    seen, info = env.reset(seed=seed)
    start_m = info["error_m"]
    assert not info["success"]
    goals = env.sub_goals()
    again, _ = env.reset(seed=seed)
    assert np.abs(again["image"].astype(float) - seen["image"]).mean() < 1.0
    for action in env.solve(np.random.default_rng(0)):
        if not isinstance(action, str):
            seen, _, _, _, info = env.step(np.asarray(action, dtype=np.float32))
    assert info["success"]
    assert info["error_m"] < 0.5 * start_m
    assert np.abs(seen["image"].astype(float) - goals[-1].image).mean() < 2.0
    assert np.allclose(seen["state"], goals[-1].state, atol=0.01)
    env.close()


def test_an_action_moves_the_gripper_by_its_metres_and_keeps_it_in_its_workspace():
    env = FetchPickPlace(image_size=32)
    before, _ = env.reset(seed=0)
    for _ in range(2):
        seen, *_ = env.step(np.array([0.03, -0.02, 0.02, -1.0]))
    moved = seen["state"] - before["state"]
    assert np.allclose(moved[:3], [0.06, -0.04, 0.04], atol=0.012)
    assert seen["state"][3] < 0.1
    for _ in range(8):
        seen, *_ = env.step(np.array([9.0, 0.0, -9.0, 1.0]))
    assert seen["state"][0] < 1.56
    assert seen["state"][3] > 0.9
    assert env.action_space.high.tolist() == pytest.approx([MAX_STEP_M] * 3 + [1.0])
    env.close()


def test_the_pose_of_the_cube_is_recorded_as_a_label(tmp_path):
    written = []
    config = CollectConfig(out=str(tmp_path), environment="fetch_push", length=4, image_size=32)

    def write(_, recording, **facts):
        written.append(recording)

    record_gym_episode(config, write, lambda name, size: FetchPush(image_size=size), 5)
    (recording,) = written
    poses_TM4 = np.stack(recording.object_poses)
    assert poses_TM4.shape == (4, 1, 4)
    assert np.array_equal(np.stack(recording.objects), poses_TM4[:, 0, :3])
    env = FetchPush(image_size=32)
    env.reset(seed=5)
    assert np.allclose(poses_TM4[0, 0, :3], env.object_m)
    env.close()
