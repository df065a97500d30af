"""Simulated and real-layout episodes as flat arrays, through the index and the shared readers."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
import torch

from envs.collect import collect
from envs.config import CollectConfig
from planning.cli.app import compose_options, main
from planning.skills.play import random_skill
from worldmodel.checkpoint import load
from worldmodel.data.cache import cache_root, cache_slot, locked
from worldmodel.data.flat_arrays import DecodeOptions, decoded, index_folder
from worldmodel.data.memory import open_clips
from worldmodel.data.transforms import Preprocess
from worldmodel.data.writers.droid import write_episode
from worldmodel.errors import ConfigError, DataError
from worldmodel.training.distributed import Ranks
from worldmodel.training.sources import open_memory


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    out = tmp_path_factory.mktemp("collected")
    collect(
        CollectConfig(out=str(out), episodes=4, length=6, image_size=64, workers=1, seed=60),
        write_episode,
        random_skill,
    )
    return out


def copy_of(root, out):
    shutil.copytree(root, out, ignore=shutil.ignore_patterns(".*"))
    return out


def arrays_of(root, image_size, **options):
    """The folder of flat arrays (its files stay there until the episodes change)."""
    with decoded(root, DecodeOptions(image_size=image_size), **options) as folder:
        return folder


def files_under(root):
    return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in [root, *root.rglob("*")]}


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
    cache = arrays_of(root, 64)
    folders = sorted(p.parent for p in root.rglob("trajectory.h5"))
    truth = [raw_arrays(folder) for folder in folders]
    for name in truth[0]:
        wanted = np.concatenate([episode[name] for episode in truth])
        found = np.load(cache / f"{name}.npy")
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    assert np.load(cache / "starts.npy").tolist() == [0, 6, 12, 18, 24]
    half = np.load(arrays_of(root, 32) / "frames.npy")
    frames = torch.from_numpy(np.concatenate([e["frames"] for e in truth]))
    np.testing.assert_array_equal(half, Preprocess("droid", (32, 32))(frames).numpy())
    summary = index_folder(root).summary
    assert (summary["accepted"], summary["rejected"], summary["inspected"]) == (4, 0, 0)


def test_nothing_is_written_into_the_data_folder(collected, tmp_path):
    root = copy_of(collected, tmp_path / "root")
    for path in [*root.rglob("*"), root]:
        path.chmod(0o555 if path.is_dir() else 0o444)  # root may write all the same
    before = files_under(root)
    clips = open_clips(root, 4, 64, cache=tmp_path / "mine")
    assert clips.batch(np.array([0]))["frames"].shape == (1, 4, 64, 64, 3)
    assert files_under(root) == before
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == ["frames", "index"]
    assert not list((tmp_path / "mine").rglob("*.part"))


def test_a_cache_is_kept_while_it_fits_and_made_anew_when_an_episode_changes(collected, tmp_path):
    root = copy_of(collected, tmp_path / "root")
    cache = arrays_of(root, 64)
    before = (cache / "frames.npy").stat().st_ino
    link = tmp_path / "link"
    link.symlink_to(root)
    assert arrays_of(link, 64) == cache
    assert (cache / "frames.npy").stat().st_ino == before
    path = sorted(root.rglob("trajectory.h5"))[0]
    with h5py.File(path, "r+") as file:
        file["action/delta"][0, 0] = 0.5
    changed = arrays_of(root, 64)
    assert np.load(changed / "actions.npy")[0, 0] == 0.5
    assert changed != cache
    assert not cache.exists()


def test_two_runs_at_once_decode_once(collected, tmp_path):
    root = copy_of(collected, tmp_path / "root")
    code = (
        "import sys; from worldmodel.data.memory import open_clips\n"
        "print(len(open_clips(sys.argv[1], 4, 48, cache=sys.argv[2])))\n"
    )
    command = [sys.executable, "-c", code, str(root), str(tmp_path / "cache")]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [run.communicate()[0].strip() for run in runs] == ["12", "12"]
    (slot,) = (tmp_path / "cache" / "frames").iterdir()
    assert len([p for p in slot.iterdir() if p.is_dir()]) == 1


def test_the_lock_of_a_killed_process_is_free_though_its_workers_live(tmp_path):
    code = (
        "import os, sys, time; from pathlib import Path; from worldmodel.data.cache import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    child = os.fork()\n"
        "    if child: print(child, flush=True)\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    try:
        os.kill(child, 0)
        with locked(tmp_path / "lock"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_without_a_home_the_cache_option_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("WORLDMODEL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "worldmodel"
    assert cache_root(tmp_path) == tmp_path
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_root() == tmp_path / ".cache" / "worldmodel"

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(ConfigError, match=r"cache=DIR.*WORLDMODEL_CACHE"):
        cache_root()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="Cannot write to the cache folder"):
        cache_slot("index", tmp_path, {}, tmp_path / "file")


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
    cache = arrays_of(root, 32)
    found = np.load(cache / "states.npy")
    steps = np.load(cache / "starts.npy")
    assert np.diff(steps).tolist() == [18, 19]  # 64 and 70 steps at 15 Hz
    wanted = states[0][np.minimum(63, np.round(np.arange(18) * 15 / 4).astype(int))]
    np.testing.assert_allclose(found[:18, :3], wanted[:, :3], atol=0.02)
    actions = np.load(cache / "actions.npy")
    np.testing.assert_allclose(actions[:17, :3], np.diff(found[:18, :3], axis=0), atol=1e-6)
    assert np.isnan(np.load(cache / "objects.npy")).all()
    assert np.load(cache / "frames.npy").shape == (37, 32, 32, 3)


def test_training_reads_links_and_control_rates_as_asked(layouts, tmp_path):
    count = {}
    for fps in ("", "7.5", "60"):
        words = [f"{name}={layouts[0]['rlds']}" for name in ("data", "val")]
        options = compose_options("train", [*words, *([f"rlds_fps={fps}"] if fps else [])])
        clips, held_out = open_memory(options.run, options.clips, 32, Ranks())
        assert len(clips) == len(held_out)
        count[fps] = len(clips)
    assert count["60"] < count[""] < count["7.5"]  # the same steps last shorter or longer
    root = copy_of(layouts[0]["droid"], tmp_path / "root")
    path = next(root.rglob("trajectory.h5"))
    path.symlink_to(path.rename(tmp_path / "elsewhere.h5"))
    for words, episodes in (([], 1), (["links=all"], 2)):
        options = compose_options("train", [f"data={root}", f"val={root}", *words])
        clips, _ = open_memory(options.run, options.clips, 32, Ranks())
        assert 1 + (np.diff(clips.firsts) > 1).sum() == episodes
    with pytest.raises(ConfigError, match="rlds_fps=5 is for RLDS"):
        open_clips(root, 4, 32, links="all", rlds_fps=5.0)


def test_a_small_model_trains_on_recordings_without_sent_actions(layouts, tmp_path):
    root = copy_of(layouts[0]["droid"], tmp_path / "root")
    words = ["train", "recipe=sim_small", f"data={root}", f"val={root}", "image_size=32"]
    words += ["patch_size=32", "stem_channels=[8,8,8,8]", "steps=2", "batch_size=4", "device=cpu"]
    words += [f"out={tmp_path / 'out'}", "encoder_dim=32", "predictor_dim=32", "predictor_depth=1"]
    assert main(words) == 2  # the recipe learns from the simulator's label, and there is none
    assert main([*words, "object=0"]) == 0
    world = load(tmp_path / "out" / "model.safetensors", "cpu")
    assert world.action_spec.gripper == "difference"


def test_sent_and_unsent_actions_do_not_mix(collected, tmp_path):
    root = copy_of(collected, tmp_path / "root")
    with h5py.File(next(root.rglob("trajectory.h5")), "r+") as file:
        del file["action/delta"]
    with pytest.raises(DataError, match="keep them apart"):
        arrays_of(root, 32)
    assert not list(cache_root().rglob("*.part"))


def test_episodes_of_other_sizes_are_rejected_with_the_reason(collected, tmp_path, caplog):
    root = copy_of(collected, tmp_path / "root")
    first, second, *_ = sorted(root.rglob("trajectory.h5"))
    narrow(first)
    assert len(open_clips(root, 4, 64)) == 3 * 3
    assert "'action_dim': 1" in caplog.text
    narrow(second)
    with pytest.raises(DataError, match=r"None of the 4 episodes.*action_dim"):
        open_clips(root, 4, 64)
    for path in root.rglob("trajectory.h5"):
        if path not in (first, second):
            narrow(path)
    clips = open_clips(root, 4, 64)
    assert len(clips) == 12
    assert clips.batch(np.array([0]))["actions"].shape == (1, 3, 5)


def narrow(path):
    """Store actions of 5 numbers instead of 7."""
    with h5py.File(path, "r+") as file:
        actions = file["action/delta"][:, :5]
        del file["action/delta"]
        file["action/delta"] = actions
