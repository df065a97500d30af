"""Several views of an episode: the same steps of every camera, in every layout and store."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from planning.cli.app import main
from worldmodel.data.dataset import RawClips
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.inspection import IndexOptions
from worldmodel.data.memory import open_clips
from worldmodel.data.prepare import PrepareOptions, prepare, prepared_views
from worldmodel.data.prepared import PreparedClips
from worldmodel.data.readers.options import ReadOptions
from worldmodel.data.sampling import ClipOptions
from worldmodel.data.transforms import Preprocess
from worldmodel.data.writers.synthetic import draw_episode, random_states
from worldmodel.errors import ConfigError, DataError

SIZE, SHRINK, VIEWS = (48, 64), Preprocess("droid", (32, 32)), ("left", "wrist")


def index(root, out, views=VIEWS):
    options = IndexOptions(read=ReadOptions(camera=views[0], views=views))
    return build_index(root, out, options, workers=1)


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    root = tmp_path_factory.mktemp("views") / "data"
    for number, cameras in enumerate((("left", "wrist"), ("left", "right", "wrist"), ("left",))):
        draw_episode(root, f"e{number}", random_states(64, number), size=SIZE, cameras=cameras)
    return root


def test_an_episode_without_a_view_is_rejected_with_the_reason(episodes, tmp_path):
    summary = index(episodes, tmp_path)
    assert (summary["accepted"], summary["reasons"]) == (2, {"camera_unknown": 1})
    assert summary["views"] == list(VIEWS)
    (rejected,) = map(json.loads, (tmp_path / "rejects.jsonl").read_text().splitlines())
    assert "no camera 'wrist'" in rejected["message"]
    assert "['left']" in rejected["message"]


@pytest.mark.parametrize("layout", ["droid", "rlds", "v2.1", "v3.0"])
def test_views_of_a_clip_are_those_of_single_cameras(layouts, tmp_path, layout):
    roots, _ = layouts
    views, options = ("right", "left"), {"num_frames": 4, "fps": 5}
    index(roots[layout], tmp_path / "both", views)
    both = RawClips(open_manifest(tmp_path / "both"), ClipOptions(**options, views=views), SHRINK)
    chosen = np.array([0, len(both) - 1])
    found = both.batch(chosen)
    assert found["frames"].shape == (2, 4, 2, 32, 32, 3)
    for number, view in enumerate(views):
        index(roots[layout], tmp_path / view, (view,))
        alone = RawClips(open_manifest(tmp_path / view), ClipOptions(**options), SHRINK)
        assert alone.content_hash() != both.content_hash()
        expected = alone.batch(chosen)
        np.testing.assert_array_equal(found["frames"][:, :, number], expected["frames"])
        np.testing.assert_array_equal(found["states"], expected["states"])


def test_views_in_memory_and_prepared_are_the_raw_ones(episodes, tmp_path):
    index(episodes, tmp_path / "index")
    manifest = open_manifest(tmp_path / "index")
    options = ClipOptions(num_frames=3, views=VIEWS)
    raw = RawClips(manifest, options, SHRINK)
    chosen = np.array([1, len(raw) - 1])
    expected = raw.batch(chosen)
    for codec, allowed in (("raw", 0), ("jpeg", 3)):
        kept = PrepareOptions(image_size=32, codec=codec, views=VIEWS)
        prepare(manifest, tmp_path / codec, kept, SHRINK)
        ready = PreparedClips(tmp_path / codec, 3)
        assert len(ready) == len(raw)
        found = ready.batch(chosen)
        assert np.abs(found["frames"].astype(int) - expected["frames"]).mean() <= allowed
    tokens = PrepareOptions(image_size=32, what="features", encoder_hash="x", views=VIEWS)
    prepare(manifest, tmp_path / "features", tokens, SHRINK, lambda x: x[:, :2, 0].float())
    features = PreparedClips(tmp_path / "features", 3).batch(chosen)["features"].float().numpy()
    by_view = expected["frames"][:, :, :, :2, 0].reshape(2, 3, 4, 3)
    np.testing.assert_allclose(features, by_view, rtol=1e-2)
    clips = open_clips(tmp_path / "index", 3, 32, views=VIEWS, cache=tmp_path, workers=1)
    assert clips.arrays["frames"].shape[1:] == (2, 32, 32, 3)
    one = open_clips(tmp_path / "index", 3, 32, cache=tmp_path, workers=1)
    np.testing.assert_array_equal(clips.arrays["frames"][:, 0], one.arrays["frames"])
    assert clips.content_hash() != one.content_hash()


def test_an_index_without_the_views_is_refused_by_name(episodes, tmp_path):
    build_index(episodes, tmp_path / "index", workers=1)
    manifest = open_manifest(tmp_path / "index")
    with pytest.raises(DataError, match=r"e2 .* no wrist: index again with views=left,wrist"):
        RawClips(manifest, ClipOptions(num_frames=3, views=VIEWS), SHRINK)


def test_views_that_were_captured_apart_are_rejected(episodes, tmp_path):
    root = tmp_path / "data"
    draw_episode(root, "late", random_states(64, 0), size=SIZE, cameras=VIEWS)
    (file,) = Path(root).rglob("trajectory.h5")
    with h5py.File(file, "a") as h5:
        for name, stamps in h5["observation/timestamp/cameras"].items():
            if name.startswith("14000001"):
                stamps[40:] = stamps[40:] + 90
    with pytest.raises(DataError, match="views_apart"):
        index(root, tmp_path / "index")
    assert build_index(root, tmp_path / "one", workers=1)["accepted"] == 1


def test_commands_index_and_prepare_views(episodes, tmp_path, capsys):
    found = ["data", "index", f"root={episodes}", f"out={tmp_path / 'index'}", "workers=1"]
    assert main([*found, "views=left,wrist"]) == 0
    made = ["data", "prepare", f"index={tmp_path / 'index'}", "image_size=32", "codec=raw"]
    assert main([*made, f"out={tmp_path / 'made'}", "views=left,wrist"]) == 0
    assert PreparedClips(tmp_path / "made", 2).options.views == VIEWS
    capsys.readouterr()
    assert main([*made, f"out={tmp_path / 'made'}"]) == 2
    assert "another plan" in capsys.readouterr().err
    assert main([*found, "views=left,left"]) == 2
    assert "different names" in capsys.readouterr().err
    assert main([*found, "camera=right", "views=left,wrist"]) == 2
    assert "contradicts views" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="name it first"):
        prepared_views(open_manifest(tmp_path / "index"), ("wrist", "left"))
