import json

import av
import h5py
import numpy as np
import pytest

from envs.collect import collect
from envs.config import CollectConfig
from planning.skill_play import random_skill
from worldmodel.data.memory import open_clips
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
