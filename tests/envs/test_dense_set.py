"""Rendered depth and classes agree with the scene."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import envs
from envs.dense_options import CLASSES, DenseSetOptions
from envs.dense_set import class_of_geometries, write_dense_set
from envs.errors import ConfigError


def test_depth_and_class_are_those_of_the_object_that_is_seen():
    env = envs.make("reach_with_object", image_size=160)
    env.reset(seed=2)
    before = env.render()
    depth_m, numbers = env.renderer.measure(env.data, "left")
    np.testing.assert_array_equal(env.render(), before)  # later images are coloured again
    classes = class_of_geometries(env.model)[numbers]
    found = classes == CLASSES.index("object")
    u, v, away = env.camera_matrix() @ np.append(env.items[0].position_m, 1.0)
    rows, columns = np.nonzero(found)
    assert abs(u / away * 160 - (columns.mean() + 0.5)) < 4
    assert abs(v / away * 160 - (rows.mean() + 0.5)) < 4
    assert abs(depth_m[found].mean() - away) < 0.05
    assert (depth_m[numbers < 0] == 0).all()
    assert set(np.unique(classes)) >= {CLASSES.index(name) for name in ("floor", "table", "arm")}
    env.close()


def test_a_set_has_pictures_of_other_scenes_and_is_the_same_twice(tmp_path):
    for name in ("one", "two"):
        options = DenseSetOptions(out=str(tmp_path / name), train=2, val=1, image_size=32)
        assert write_dense_set(options) == {"train": 2, "val": 1}
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.png"))
    assert len(files) == 9
    for file in files:
        one, two = (np.array(Image.open(tmp_path / name / file)) for name in ("one", "two"))
        np.testing.assert_array_equal(one, two)
    first, second = (
        np.array(Image.open(tmp_path / "one/train/images" / name))
        for name in ("000000.png", "000001.png")
    )
    assert (first != second).mean() > 0.3
    assert Image.open(tmp_path / "one/val/depth/000000.png").mode == "I;16"


def test_a_second_run_adds_what_is_missing_and_nothing_of_other_options(tmp_path):
    options = DenseSetOptions(out=str(tmp_path), train=3, val=1, image_size=32)
    write_dense_set(options)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("*.png")}
    lost = [tmp_path / "train" / name / "000001.png" for name in ("depth", "labels")]
    for file in lost:
        file.unlink()
    write_dense_set(replace(options, val=2))
    after = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("*.png")}
    assert len(after) == len(before) + 3
    rewritten = [*lost, tmp_path / "train" / "images" / "000001.png"]
    for path, (content, time_ns) in before.items():
        assert after[path][0] == content
        assert (after[path][1] == time_ns) == (path not in rewritten)
    with pytest.raises(ConfigError, match="give another out="):
        write_dense_set(replace(options, seed=1))
    with pytest.raises(ConfigError, match="asks for no image"):
        write_dense_set(replace(options, train=0, val=0))


def test_a_full_disk_is_named(tmp_path):
    (tmp_path / "train" / "depth").mkdir(parents=True)
    options = DenseSetOptions(out=str(tmp_path), train=1, val=0, image_size=32)
    with pytest.raises(ConfigError, match="holds train"):
        write_dense_set(options)
    shutil.rmtree(tmp_path / "train")
    write_dense_set(replace(options, train=0, val=1))
    (tmp_path / "train" / "depth").mkdir(parents=True)
    (tmp_path / "train" / "depth" / ".000000.png.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"000000\.png"):
        write_dense_set(options)
