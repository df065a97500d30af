"""Simulated and real-layout episodes as flat arrays, through the index and the shared readers."""

import json
import shutil

import av
import h5py
import numpy as np
import pytest

from envs.collect import collect
from envs.config import CollectConfig
from planning.cli.app import main
from worldmodel.checkpoints.io import load
from worldmodel.data.episode import EpisodeError
from worldmodel.data.memory import build_cache, open_clips, sequences
from worldmodel.data.writers.droid import write_episode
from worldmodel.errors import DataError


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    out = tmp_path_factory.mktemp("collected")
    collect(
        CollectConfig(out=str(out), episodes=4, length=6, image_size=64, workers=1, seed=60),
        write_episode,
    )
    return out


def copy_of(root, out):
    shutil.copytree(root, out, ignore=shutil.ignore_patterns(".*"))
    return out


def raw_arrays(folder):
    """What lies in the files, read without the package."""
    with h5py.File(folder / "trajectory.h5") as file:
        pose = file["observation/robot_state/cartesian_position"][:]
        grip = file["observation/robot_state/gripper_position"][:]
        actions, objects = (
            file["action/delta"][:],
            file["observation/simulation/object_position"][:],
        )
    with av.open(str(next(folder.rglob("*.mp4")))) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    states = np.concatenate([pose, grip[:, None]], 1)
    out = {"states": states, "actions": actions, "objects": objects}
    return {"frames": frames, **{k: v.astype(np.float32) for k, v in out.items()}}


def test_arrays_are_the_files_bit_for_bit(collected, tmp_path):
    root = copy_of(collected, tmp_path / "root")
    cache = build_cache(root, 64)
    folders = sorted(p.parent for p in root.rglob("trajectory.h5"))
    truth = [raw_arrays(folder) for folder in folders]
    for name in truth[0]:
        wanted = np.concatenate([episode[name] for episode in truth])
        found = np.load(cache / f"{name}.npy")
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    assert np.load(cache / "starts.npy").tolist() == [0, 6, 12, 18, 24]
    half = np.load(build_cache(root, 32) / "frames.npy")
    blocks = np.concatenate([e["frames"] for e in truth]).reshape(24, 32, 2, 32, 2, 3)
    np.testing.assert_array_equal(half, blocks.mean((2, 4)).round().astype(np.uint8))
    summary = json.loads((root / ".index" / "summary.json").read_text())
    assert (summary["accepted"], summary["rejected"], summary["looked_at"]) == (4, 0, 0)


def test_a_cache_is_kept_while_it_fits_and_made_anew_when_an_episode_changes(collected, tmp_path):
    root = copy_of(collected, tmp_path / "root")
    cache = build_cache(root, 64)
    before = (cache / "frames.npy").stat().st_ino
    assert build_cache(root, 64) == cache
    assert (cache / "frames.npy").stat().st_ino == before
    path = sorted(root.rglob("trajectory.h5"))[0]
    with h5py.File(path, "r+") as file:
        file["action/delta"][0, 0] = 0.5
    actions = np.load(build_cache(root, 64) / "actions.npy")
    assert actions[0, 0] == 0.5
    assert not [p for p in root.iterdir() if p.name.startswith(".frames-64-")]


def test_a_bad_episode_is_rejected_with_its_reason_and_too_many_stop(collected, tmp_path, caplog):
    root = copy_of(collected, tmp_path / "root")
    video = next(root.rglob("*.mp4"))
    video.write_bytes(video.read_bytes()[:200])
    clips = open_clips(root, 4, 64)
    assert len(clips) == 3 * 3
    assert "1 of 4 episodes" in caplog.text
    assert "video_truncated" in caplog.text
    with pytest.raises(DataError, match=r"max_reject_fraction=0\.1"):
        open_clips(root, 4, 64, max_reject_fraction=0.1)


@pytest.mark.parametrize("name", ["droid", "rlds", "v2.1", "v3.0"])
def test_recordings_of_every_layout_become_clips_at_4_fps(layouts, tmp_path, name):
    roots, states = layouts
    root = copy_of(roots[name], tmp_path / "root")
    cache = build_cache(root, 32)
    found = np.load(cache / "states.npy")
    steps = np.load(cache / "starts.npy")
    assert np.diff(steps).tolist() == [18, 19]  # 64 and 70 steps at 15 Hz
    wanted = states[0][np.minimum(63, np.round(np.arange(18) * 15 / 4).astype(int))]
    np.testing.assert_allclose(found[:18, :3], wanted[:, :3], atol=0.02)
    actions = np.load(cache / "actions.npy")
    np.testing.assert_allclose(actions[:17, :3], np.diff(found[:18, :3], axis=0), atol=1e-6)
    assert np.isnan(np.load(cache / "objects.npy")).all()
    assert np.load(cache / "frames.npy").shape == (37, 32, 32, 3)


def test_a_small_model_trains_on_recordings_without_sent_actions(layouts, tmp_path):
    root = copy_of(layouts[0]["droid"], tmp_path / "root")
    words = ["train", "recipe=sim_small", f"data={root}", f"val={root}", "image_size=32"]
    words += ["patch_size=32", "stem_channels=[8,8,8,8]", "steps=2", "batch_size=4", "device=cpu"]
    words += [f"out={tmp_path / 'out'}", "encoder_dim=32", "predictor_dim=32", "predictor_depth=1"]
    assert main(words) == 2  # the recipe learns from the simulator's label, and there is none
    assert main([*words, "object=0"]) == 0
    world = load(tmp_path / "out" / "model.safetensors", "cpu")
    assert world.convention.gripper == "difference"


def test_sent_and_unsent_actions_do_not_mix(collected, tmp_path):
    root = copy_of(collected, tmp_path / "root")
    with h5py.File(next(root.rglob("trajectory.h5")), "r+") as file:
        del file["action/delta"]
    with pytest.raises(DataError, match="keep them apart"):
        build_cache(root, 32)
    assert not [p for p in root.iterdir() if p.name.startswith(".frames")]


def test_sequences_follow_the_clock_and_stop_at_gaps():
    even = np.arange(8) * 0.25
    assert [s.tolist() for s in sequences(even)] == [list(range(8))]
    gap = np.where(even > 1, even + 2, even)
    assert [len(s) for s in sequences(gap)] == [5, 3]
    fast = np.arange(60) / 15
    assert np.diff(fast[sequences(fast)[0]]).max() <= 4 / 15 + 1e-9
    broken = np.where(fast > 2, fast + 3, fast)
    assert [len(s) for s in sequences(broken)] == [9, 7]
    with pytest.raises(EpisodeError, match="too_slow"):
        sequences(np.arange(5) * 1.0)
