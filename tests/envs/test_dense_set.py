"""Rendered depth and classes agree with the scene."""

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
    with pytest.raises(ConfigError, match="give another out="):
        write_dense_set(options)
