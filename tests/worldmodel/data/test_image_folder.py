"""Images of a folder: random crops, what is left out, and its names."""

import io

import numpy as np
import pytest
from PIL import Image

from worldmodel.data.image_folder import ASPECT, ImageFolder, ImageOptions, random_box
from worldmodel.errors import DataError


def picture(seed, size=(40, 30)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "images"
    (root / "deeper").mkdir(parents=True)
    for number in range(5):
        picture(number).save(root / f"{number}.png")
    picture(5, (20, 70)).save(root / "deeper" / "5.JPG")
    return root


OPTIONS = ImageOptions(size=16)


def test_boxes_are_inside_and_have_the_share_and_the_aspect():
    rng = np.random.default_rng(0)
    shares, ratios = [], []
    for _ in range(2000):
        left, top, right, bottom = random_box(300, 200, (0.3, 1.0), rng)
        assert 0 <= left < right <= 200
        assert 0 <= top < bottom <= 300
        shares.append((right - left) * (bottom - top) / 60_000)
        ratios.append((right - left) / (bottom - top))
    assert min(shares) > 0.29
    assert ASPECT[0] - 0.02 < min(ratios) < max(ratios) < ASPECT[1] + 0.02
    assert 0.45 < np.mean(shares) < 0.65
    left, top, right, bottom = random_box(1000, 10, (0.9, 1.0), rng)  # no such crop fits
    assert (left, right) == (0, 10)
    assert (bottom - top, top) == pytest.approx((10 / ASPECT[0], (1000 - 10 / ASPECT[0]) / 2))


def test_crops_depend_on_their_seeds_alone(folder):
    images = ImageFolder(folder, OPTIONS)
    assert len(images) == 6
    crops, kept = images.crops(np.array([0, 5, 3]), [7, 8, 9])
    assert crops.shape == (3, 16, 16, 3)
    assert kept.all()
    again, _ = images.crops(np.array([5, 3]), [8, 9])
    np.testing.assert_array_equal(again, crops[1:])
    other, _ = images.crops(np.array([3]), [10])
    assert (other != crops[2:]).any()
    assert images.batch(np.arange(6))["frames"].shape == (6, 1, 16, 16, 3)


def test_an_unreadable_image_is_named_and_left_out(folder):
    (folder / "page.png").write_text("<!DOCTYPE html>")
    (folder / "empty.jpg").touch()
    (folder / "folder.jpg").mkdir()
    (folder / "away.png").symlink_to("/etc/hostname")
    buffer = io.BytesIO()
    picture(9, (300, 300)).save(buffer, "JPEG")
    (folder / "short.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    images = ImageFolder(folder, OPTIONS)
    assert set(images.rejects) == {"page.png", "empty.jpg", "away.png"}
    assert "outside the data set" in images.rejects["away.png"]
    names = [path.name for path in images.files]
    crops, kept = images.crops(np.arange(len(names)), range(len(names)))  # the torn one shows now
    assert [name for name, ok in zip(names, kept, strict=True) if not ok] == ["short.jpg"]
    assert len(crops) == 6
    assert "short.jpg" in images.rejects


def test_too_many_unreadable_images_and_none_at_all(folder, tmp_path):
    with pytest.raises(DataError, match="holds no readable image"):
        ImageFolder(tmp_path / "missing", OPTIONS)
    for number in range(7):
        (folder / f"bad-{number}.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"7 of 13 images .* max_reject_fraction=0.5 \(bad-0.png"):
        ImageFolder(folder, OPTIONS)


def test_the_hash_follows_the_content(folder):
    before = ImageFolder(folder, OPTIONS).content_hash()
    assert ImageFolder(folder, OPTIONS).content_hash() == before
    picture(77).save(folder / "0.png")
    assert ImageFolder(folder, OPTIONS).content_hash() != before
