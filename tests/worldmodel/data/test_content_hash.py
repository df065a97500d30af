"""A source's content hash changes with any of its clips, and not with the data set's folder."""

import os
import shutil

import h5py
import pytest

from worldmodel.data.dataset import RawClips
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.memory import open_clips
from worldmodel.data.prepare import PrepareOptions, prepare
from worldmodel.data.prepared import PreparedClips
from worldmodel.data.sampling import ClipOptions
from worldmodel.data.transforms import Preprocess

SHRINK = Preprocess("droid", (32, 32))


def raw(root, index):
    build_index(root, index, workers=1)
    return RawClips(open_manifest(index), ClipOptions(num_frames=3), SHRINK)


@pytest.mark.parametrize("name", ["droid", "rlds", "v2.1", "v3.0"])
def test_raw_clips(layouts, tmp_path, name):
    root = shutil.copytree(layouts[0][name], tmp_path / "data")
    found = raw(root, tmp_path / "index").content_hash()
    moved = root.rename(tmp_path / "moved")
    assert raw(moved, tmp_path / "index-2").content_hash() == found
    kinds = (".h5", ".parquet", ".tfrecord")
    files = [path for path in moved.rglob("*") if "meta" not in path.parts]
    last = max(path for path in files if any(kind in path.name for kind in kinds))
    os.utime(last, ns=(1, 1))
    assert raw(moved, tmp_path / "index-3").content_hash() != found


def test_decoded_arrays(layouts, tmp_path):
    root = shutil.copytree(layouts[0]["droid"], tmp_path / "data")

    def found(folder):
        return open_clips(folder, 3, 32, workers=1, cache=tmp_path / "cache").content_hash()

    before = found(root)
    moved = root.rename(tmp_path / "moved")
    path = max(moved.rglob("trajectory.h5"))
    os.utime(path, ns=(1, 1))
    assert found(moved) == before  # the same content, decoded again
    with h5py.File(path, "r+") as file:
        file["observation/robot_state/cartesian_position"][0, 0] += 1e-3
    assert found(moved) != before


def test_prepared_clips(layouts, tmp_path):
    index = tmp_path / "index"
    build_index(layouts[0]["droid"], index, workers=1)
    hashes = []
    for name, fps in (("a", 4.0), ("b", 4.0), ("c", 5.0)):
        options = PrepareOptions(image_size=32, episodes_per_shard=1, fps=fps)
        prepare(open_manifest(index), tmp_path / name, options, SHRINK)
        hashes.append(PreparedClips(tmp_path / name, 3).content_hash())
    assert hashes[0] == hashes[1] != hashes[2]
