"""Random views for the training of probes: what they change, and what they leave alone."""

import numpy as np
import pytest
import torch
from numpy.random import RandomState
from PIL import Image

from worldmodel.errors import ShapeError
from worldmodel.perception.pixel_operations import (
    AUTO,
    POLICY,
    RANDOM,
    Canvas,
    auto_augment,
    random_augment,
)
from worldmodel.perception.training_views import AREA, ASPECT, draw_crop, erase, training_view

CANVAS = Canvas((128, 128, 128))


def picture(height=40, width=60):
    pixels = RandomState(0).randint(30, 226, (height, width, 3)).astype(np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("is_image", [False, True])
def test_a_view_is_a_function_of_its_seed_and_equal_in_all_frames(is_image):
    still = torch.from_numpy(np.asarray(picture()).copy()).expand(3, -1, -1, -1)
    differs = 0
    for seed in range(30):
        views = [
            training_view(still, 32, RandomState(seed), flip=True, is_image=is_image)
            for _ in range(2)
        ]
        assert torch.equal(*views)
        assert views[0].shape == (3, 32, 32, 3)
        changed = (views[0][0] != views[0][1]).any(-1)  # only the noise differs between frames
        if changed.any():
            differs += 1
            rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
            assert len(rows) == rows.max() - rows.min() + 1
            assert len(columns) == columns.max() - columns.min() + 1
            assert 0.01 < float(changed.float().mean()) < 0.4
    assert 1 <= differs <= 16  # a quarter of the views is erased
    with pytest.raises(ShapeError):
        training_view(still.float(), 32, RandomState(0), flip=False)


def test_crops_have_the_published_sizes_and_flips_are_half():
    draw, areas, mirrored = RandomState(0), [], 0
    ramp = torch.arange(60).repeat(1, 40, 1)[..., None].expand(-1, -1, -1, 3).to(torch.uint8)
    for seed in range(200):
        rows, columns = draw_crop(40, 60, draw)
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        assert 0 <= rows.start < rows.stop <= 40
        assert 0 <= columns.start < columns.stop <= 60
        areas.append(high * wide / 2400)
        assert ASPECT[0] - 0.1 < wide / high < ASPECT[1] + 0.1
        view = training_view(ramp, 16, RandomState(seed), flip=True, is_image=True)
        mirrored += float(view[0, :, 0].float().mean()) > float(view[0, :, -1].float().mean())
    assert AREA[0] - 0.02 < min(areas) < 0.2
    assert max(areas) > 0.7
    assert 60 < mirrored < 140
    assert draw_crop(2, 4000, RandomState(0))[0] == slice(0, 2)


def test_erasing_leaves_the_rest():
    view = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    erased = erase(view, RandomState(1))
    assert torch.equal(view, torch.zeros_like(view))
    assert 0.01 < float((erased != 0).any(-1).float().mean()) < 0.4


@pytest.mark.parametrize("operations", [RANDOM, AUTO])
def test_every_operation_keeps_size_and_mode(operations):
    for name, operation in operations.items():
        for strength in (0.0, 7.0, 10.0):
            found = operation(strength, RandomState(0), CANVAS)(picture())
            assert (found.size, found.mode) == ((60, 40), "RGB"), name


def test_strength_changes_more():
    """RandAugment's operations leave a picture almost alone at 0."""
    for name in ("turn", "shear_x", "colour", "brightness", "solarise", "solarise_add"):
        wild, mild, none = (
            np.asarray(RANDOM[name](strength, RandomState(0), CANVAS)(picture())).astype(int)
            for strength in (9.0, 2.0, 0.0)
        )
        start = np.asarray(picture()).astype(int)
        changes = [np.abs(found - start).mean() for found in (none, mild, wild)]
        assert changes[0] < 1e-9, name
        assert changes[1] < changes[2], name


def test_policies_draw_as_published():
    assert len(POLICY) == 25
    assert all(name in AUTO for pair in POLICY for name, _, _ in pair)
    draw = RandomState(0)
    counts = [len(random_augment(draw, CANVAS)) for _ in range(400)]
    assert max(counts) <= 4
    assert 1.7 < np.mean(counts) < 2.3  # four operations, each with probability one half
    assert max(len(auto_augment(draw, CANVAS)) for _ in range(50)) == 2
