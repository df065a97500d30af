"""Episodes that the writers made are read back as they were recorded."""

import dataclasses

import numpy as np
import pytest

from robot.record import Recording
from worldmodel.data.readers.droid import find_episodes, read_droid
from worldmodel.data.writers.droid import write_episode
from worldmodel.errors import DataError

STEPS = 5


def recording(*, objects=True):
    rng = np.random.default_rng(0)
    found = Recording()
    for step in range(STEPS):
        found.add(
            frames={name: np.full((32, 48, 3), 40 * step, np.uint8) for name in ("left", "wrist")},
            state=rng.uniform(-0.5, 0.5, 7).clip(0, 1),
            joints=rng.uniform(-1, 1, 7),
            action=rng.uniform(-0.05, 0.05, 7),
            target=rng.uniform(0, 0.5, 7),
            time_s=1.0 + 0.25 * step,
            object_m=rng.uniform(0, 0.5, 3) if objects else None,
        )
    return found


def test_a_recording_is_read_back_as_it_was(tmp_path):
    made = recording()
    pose = np.array([0.3, 0.6, 0.5, -2.0, 0.0, -2.0])
    folder = write_episode(
        tmp_path, made, success=True, task="reach", stamp="one", extrinsics={"left": pose}
    )
    assert list(find_episodes(tmp_path)) == [folder]
    episode = read_droid(folder)
    np.testing.assert_array_equal(episode.states_TS, np.stack(made.states))
    np.testing.assert_array_equal(episode.actions_TA, np.stack(made.actions))
    np.testing.assert_array_equal(episode.joints_TJ, np.stack(made.joints))
    np.testing.assert_array_equal(episode.objects_T3, np.stack(made.objects))
    np.testing.assert_allclose(episode.times_s, np.arange(STEPS) * 0.25, atol=1e-9)
    np.testing.assert_array_equal(episode.extrinsics("left"), np.tile(pose, (STEPS, 1)))
    assert sorted(episode.cameras) == ["left", "wrist"]
    assert (episode.task, episode.success) == ("reach", True)
    frames = episode.camera("wrist").frames.read(np.arange(STEPS))
    assert np.abs(frames.mean((1, 2, 3)) - 40 * np.arange(STEPS)).max() < 3


def test_unknown_columns_are_left_out(tmp_path):
    made = dataclasses.replace(recording(objects=False), actions=[])
    episode = read_droid(write_episode(tmp_path, made, success=False, task="", stamp="one"))
    assert episode.actions_TA is None
    assert episode.objects_T3 is None
    assert episode.success is False


def test_nothing_is_written_of_a_recording_that_does_not_fit(tmp_path):
    made = recording()
    made.times_s.pop()
    with pytest.raises(DataError, match=r"5 states.*'times_s': 4"):
        write_episode(tmp_path, made, success=True, task="", stamp="one")
    with pytest.raises(DataError, match="empty"):
        write_episode(tmp_path, Recording(), success=True, task="", stamp="one")
    made = recording()
    made.frames["left"][2] = np.zeros((10, 10, 4), np.uint8)
    with pytest.raises(ValueError, match="array"):
        write_episode(tmp_path, made, success=True, task="", stamp="one")
    assert list(find_episodes(tmp_path)) == []


def test_an_episode_that_exists_is_kept(tmp_path):
    first = write_episode(tmp_path, recording(), success=True, task="a", stamp="one")
    again = write_episode(tmp_path, recording(), success=True, task="b", stamp="one")
    assert first == again
    assert read_droid(again).task == "a"
