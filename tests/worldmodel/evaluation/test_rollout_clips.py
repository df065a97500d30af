"""`inspect probes` measures rollouts, with the model's own object head or a fitted one."""

import json

import numpy as np
import pytest

from planning.cli.app import main
from worldmodel import load_world_model
from worldmodel.data.memory import open_clips
from worldmodel.errors import DataError
from worldmodel.evaluation.object_errors import pose_errors
from worldmodel.evaluation.rollout_clips import fit_object_head, rollout_clips


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    words = ["collect", f"out={root}/data", "episodes=4", "length=20", "workers=1", "seed=3"]
    assert main(words) == 0
    return root


def test_the_command_writes_the_table(data, tmp_path, capsys):
    words = [f"data={data}/data", f"val={data}/data", f"cache={data}/cache", f"out={tmp_path}"]
    assert main(["inspect", "probes", *words, "count=60", "fit_steps=5", "rollout_clips=8"]) == 0
    found = json.loads((tmp_path / "summary.json").read_text())["rollouts"]
    assert not found["own_head"]
    assert list(found["pushed"]) == ["1", "2", "4", "6", "8", "10", "12", "14"]
    assert {"imagined_cm", "copy_cm", "encoded_cm", "yaw_deg", "clips"} <= found["still"][
        "14"
    ].keys()
    assert "imagined   copy  encoded" in capsys.readouterr().out


def test_a_fitted_head_finds_the_object(data):
    world = load_world_model("default", "cpu")
    clips = open_clips(data / "data", 1, 128, cache=data / "cache", labels="hindsight")
    head = fit_object_head(world, clips, 100, steps=300)
    found = rollout_clips(world, clips, 60)
    known = clips.arrays["labels"][clips.steps(np.arange(len(clips)))[:, 0], 0, 0]
    assert np.isfinite(known).any()
    gap_CT, _ = pose_errors(head.locate(found.z_CTND), found.poses_CTM4[:, :, :1])
    assert float(gap_CT.median()) < 0.05


def test_episodes_without_objects_are_an_error(data):
    world = load_world_model("default", "cpu")
    clips = open_clips(data / "data", 5, 128, cache=data / "cache")
    clips.arrays["poses"][:] = np.nan
    clips.arrays["objects"][:] = np.nan
    with pytest.raises(DataError, match="rollout_clips=0"):
        rollout_clips(world, clips, 3)
