import numpy as np
import pytest
import torch

from worldmodel.data.transforms import Preprocess, droid_region, resize
from worldmodel.errors import ConfigError, ShapeError


def frames(height, width, count=1):
    generator = np.random.default_rng(0)
    small = generator.integers(256, size=(count, 9, 13, 3), dtype=np.uint8)
    up = resize(torch.from_numpy(small), height, width)
    return up.round().to(torch.uint8)


def opencv(frame, height, width):
    cv2 = pytest.importorskip("cv2")
    return torch.from_numpy(cv2.resize(frame.numpy(), (width, height)))


@pytest.mark.parametrize("shape", [(180, 320), (320, 180), (500, 500)])
def test_published_is_resize_of_the_short_side_and_a_centre_crop(shape):
    frame = frames(*shape)[0]
    out = Preprocess("published", (224, 224))(frame)
    short = 256
    new = [int(short * side / min(shape)) for side in shape]
    top, left = (round((side - 224) / 2) for side in new)
    want = opencv(frame, *new)[top : top + 224, left : left + 224]
    assert out.shape == (224, 224, 3)
    assert (out.int() - want.int()).abs().max() <= 1  # fixed-point rounding


def test_published_at_256_takes_292():
    out = Preprocess("published", (256, 256)).exact(frames(292, 400)[0])
    assert torch.equal(out, frames(292, 400)[0][18:274, 72:328].float())


def test_droid_region():
    assert droid_region(720, 1280) == (0, 154, 720, 972)
    assert droid_region(180, 320) == (0, 38, 180, 243)
    assert droid_region(256, 256) == (0, 0, 256, 256)
    assert droid_region(400, 200) == (66, 0, 267, 200)


def test_droid_squeezes_the_middle():
    frame = frames(720, 1280)[0]
    out = Preprocess("droid", (256, 256))(frame)
    want = opencv(frame[:, 154:1126], 256, 256)
    assert (out.int() - want.int()).abs().max() <= 1


def test_batches_equal_single_frames_and_frames_of_the_size_are_kept():
    many = frames(90, 120, 4).view(2, 2, 90, 120, 3)
    transform = Preprocess("squeeze", (32, 48))
    assert torch.equal(transform(many)[1, 0], transform(many[1, 0]))
    assert torch.equal(transform(transform(many)), transform(many))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), r"float32 in 0\.\.0.*\* 255"),
        (np.zeros((3, 8, 8), np.uint8), "channels come last"),
        (np.zeros((8, 8), np.uint8), "channels come last"),
        (np.full((8, 8, 3), 300, np.int64), "uint8"),
    ],
)
def test_wrong_pixels_say_how_to_fix_them(bad, message):
    with pytest.raises(ShapeError, match=message):
        Preprocess("squeeze", (4, 4))(bad)


def test_wrong_settings():
    with pytest.raises(ConfigError, match="published, droid, squeeze"):
        Preprocess("crop", (4, 4))
    with pytest.raises(ConfigError, match=r"size\[0\]=0; allowed: .*at least 1, .* \[px\]"):
        Preprocess("droid", (0, 4))
