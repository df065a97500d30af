import json

import av
import h5py
import numpy as np
import pytest

from envs.collect import collect, record_episode
from envs.config import CollectConfig
from envs.contact_play import CONTACT_KINDS
from envs.errors import ConfigError
from planning.skills.play import random_skill
from worldmodel.data.memory import open_clips
from worldmodel.data.readers.droid import read_droid
from worldmodel.data.writers.droid import write_episode
from worldmodel.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("collected")
    collect(
        CollectConfig(out=str(out), episodes=3, length=6, image_size=64, workers=1, seed=40),
        write_episode,
        random_skill,
    )
    return out


def test_layout_is_droids(folder):
    episodes = sorted(folder.glob("SIM/*/*/episode-*"))
    assert len(episodes) == 3
    metadata = json.loads(next(episodes[0].glob("metadata_*.json")).read_text())
    video = folder / metadata["left_mp4_path"]
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == metadata["trajectory_length"] == 6
    with h5py.File(episodes[0] / "trajectory.h5") as file:
        assert file["observation/robot_state/cartesian_position"].shape == (6, 6)
        serial = metadata["ext1_cam_serial"]
        stamps = file[f"observation/timestamp/cameras/{serial}_estimated_capture"][:]
        assert (np.diff(stamps) == 250).all()


def test_a_second_run_only_adds_what_is_missing(folder):
    options = CollectConfig(
        out=str(folder), episodes=3, length=6, image_size=64, workers=1, seed=40
    )
    assert collect(options, write_episode, random_skill)["already_there"] == 3


def test_clips_read_back_what_was_recorded(folder):
    clips = open_clips(folder, 4, 64)
    assert len(clips) == 3 * 3
    batch = clips.batch(np.arange(5))
    assert batch["frames"].shape == (5, 4, 64, 64, 3)
    assert batch["frames"].std() > 10
    assert batch["actions"].shape == (5, 3, 7)
    assert set(np.unique(batch["actions"][..., 6])) <= {-1.0, 0.0, 1.0}
    assert batch["objects"].shape == (5, 4, 3)


def test_an_empty_folder_says_how_to_fill_it(tmp_path):
    with pytest.raises(DataError, match="worldmodel collect"):
        open_clips(tmp_path, 4, 64)


def test_starts_of_a_task_have_its_wall_and_picks_cross_it(tmp_path):
    options = CollectConfig(
        out=str(tmp_path), mix="carry", task="over_wall", episodes=3, seed=6, image_size=32
    )
    collect(options, write_episode, random_skill)
    crossed = 0
    for file in sorted(tmp_path.glob("SIM/*/*/*/metadata_*.json")):
        assert json.loads(file.read_text())["wall"] is not None
        poses = read_droid(file.parent).object_poses_TM4
        crossed += bool(np.linalg.norm(poses[:, 0, :2] - poses[0, 0, :2], axis=1).max() > 0.12)
    assert crossed


def test_a_task_sets_its_own_clutter():
    with pytest.raises(ConfigError, match="walls and turned have no effect with task=over_wall"):
        CollectConfig(task="over_wall", walls=0.5)


def test_contact_episodes_keep_every_objects_pose_and_pushes_end_in_a_grasp(tmp_path):
    options = CollectConfig(
        out=str(tmp_path),
        mix="contact",
        objects=("cube", "long_box"),
        objects_per_scene=(0.0, 1.0),
        turned=1.0,
        episodes=6,
        length=28,
        image_size=32,
        workers=1,
    )
    summary = collect(options, write_episode, random_skill)
    assert 0 < summary["moving_steps"]["all"]["moved"] < 1
    assert {"push", "pick"} & set(summary["kinds"]) <= set(CONTACT_KINDS)
    held = 0
    for folder in tmp_path.glob("SIM/*/*/episode-*"):
        episode = read_droid(folder)
        assert episode.object_poses_TM4.shape == (28, 2, 4)
        np.testing.assert_allclose(episode.object_poses_TM4[:, 0, :3], episode.objects_T3)
        yaws = episode.object_poses_TM4[..., 3]
        assert np.nanmax(np.abs(yaws), initial=0.0) <= np.pi / 2
        facts = json.loads(next(folder.glob("metadata_*.json")).read_text())
        np.testing.assert_array_equal(np.isnan(yaws[0]), np.array(facts["objects"]) == "cube")
        held += episode.task == "push" and 0.3 < episode.states_TS[-1, 6] < 0.7
    assert held >= 0.6 * summary["kinds"]["push"]


def test_the_mix_carry_picks_objects_up(tmp_path):
    options = CollectConfig(
        out=str(tmp_path), mix="carry", walls=1.0, episodes=4, length=20, image_size=32, workers=1
    )
    summary = collect(options, write_episode, random_skill)
    assert summary["kinds"]["pick"] >= 2
    assert summary["lifted"] >= 1


def test_the_same_seed_gives_the_same_contact_episode(tmp_path):
    found = []
    for name in ("a", "b"):
        options = CollectConfig(
            out=str(tmp_path / name), mix="contact", walls=1.0, episodes=1, length=6, image_size=32
        )
        record_episode(options, write_episode, random_skill, 5)
        (folder,) = (tmp_path / name).glob("SIM/*/*/episode-*")
        found.append(read_droid(folder))
    np.testing.assert_array_equal(found[0].states_TS, found[1].states_TS)
    np.testing.assert_array_equal(found[0].object_poses_TM4, found[1].object_poses_TM4)
