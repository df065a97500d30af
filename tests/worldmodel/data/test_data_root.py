"""The folder of a data set is found above it, in the hub's cache, or the message says how."""

import hashlib
import shutil

import pytest

from tests.worldmodel.data.own_names import write_own_lerobot, write_own_rlds
from worldmodel.data.column_map import ColumnMap
from worldmodel.data.data_root import find_root
from worldmodel.data.index import build_index
from worldmodel.data.inspection import IndexOptions
from worldmodel.data.readers import lerobot_list
from worldmodel.data.readers.options import ReadOptions
from worldmodel.data.writers.synthetic import random_states, write_dataset
from worldmodel.errors import ConfigError, DataError

STATES = [random_states(70, 0)]
NAMES = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def forget():
    for cached in (lerobot_list.read_info, lerobot_list.list_episodes):
        cached.cache_clear()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's cache as its client lays it out, with one data set; there is no connection."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    source = write_own_lerobot(
        tmp_path / "set", STATES, column=lambda s: (s, s), names=NAMES, image_views=True
    )
    folder = tmp_path / "hub" / "datasets--user--play"
    snapshot = folder / "snapshots" / COMMIT
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        blob = folder / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        link = snapshot / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return snapshot


@pytest.mark.parametrize("address", ["hf://user/play", f"hf://user/play@{COMMIT}", "hf:/user/play"])
def test_a_set_of_the_hub_is_read_from_its_cache(hub, tmp_path, address):
    assert find_root(address) == hub.resolve()
    summary = build_index(address, tmp_path / "out", workers=1)
    assert (summary["accepted"], summary["rejected"]) == (1, 0)
    assert summary["links"] == "inside"


def test_links_out_of_the_hubs_cache_are_still_refused(hub, tmp_path):
    outside = tmp_path / "elsewhere.parquet"
    link = next(hub.glob("data/*/*.parquet"))
    shutil.copy(link, outside)
    link.unlink()
    link.symlink_to(outside)
    columns = ColumnMap(
        state="observation.state[0:6]", gripper="none", left="observation.images.exterior_1_left"
    )
    options = IndexOptions(read=ReadOptions(columns=columns))
    with pytest.raises(DataError, match="path_outside"):
        build_index(hub, tmp_path / "out", options, workers=1)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("name", ["hf://user/other", "hf://user/play@v9"])
def test_a_set_that_is_not_there_is_one_error(name):
    with pytest.raises(DataError, match="cannot be read"):
        find_root(name)


def test_a_folder_above_one_set_stands_for_it(tmp_path):
    root = tmp_path / "tfds" / "my_robot" / "1.0.0"
    write_own_rlds(root, STATES, values=lambda s: {"eef": s[:, :6]})
    for given in (tmp_path / "tfds", tmp_path / "tfds" / "my_robot", root):
        assert find_root(given) == root


def test_several_sets_are_listed(tmp_path):
    for version in ("1.0.0", "2.0.0"):
        write_own_rlds(tmp_path / "set" / version, STATES, values=lambda s: {"eef": s[:, :6]})
    with pytest.raises(ConfigError, match=r"(?s)2 data sets.*1\.0\.0.*2\.0\.0"):
        find_root(tmp_path / "set")


def test_raw_droid_and_missing_folders(tmp_path):
    root = write_dataset(tmp_path / "droid", episodes=1, steps=4)
    assert find_root(root) == root
    with pytest.raises(DataError, match="does not exist"):
        find_root(tmp_path / "none")
