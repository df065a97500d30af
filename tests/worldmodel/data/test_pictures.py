"""Pictures of every mode are read as they are shown, or refused with a reason."""

import os

import numpy as np
import pytest
from PIL import Image

from worldmodel.data.pictures import read_picture
from worldmodel.errors import DataError

RAMP = np.linspace(0, 255, 48 * 64).reshape(48, 64)


def save(path, image, **options):
    image.save(path, **options)
    return read_picture(path)


@pytest.mark.parametrize("name", ["ramp.png", "ramp.tif", "ramp.pgm", "ramp.jp2"])
def test_sixteen_bits_keep_their_brightness(name, tmp_path):
    deep = Image.fromarray((RAMP * 257).astype(np.uint16))
    try:
        found = save(tmp_path / name, deep)
    except OSError as error:
        pytest.skip(str(error))
    assert found.dtype == np.uint8
    assert found.shape == (48, 64, 3)
    assert np.abs(found.astype(float) - RAMP[..., None]).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr"])
def test_eight_bit_modes_keep_their_colours(mode, tmp_path):
    image = Image.fromarray(np.repeat(RAMP[..., None], 3, 2).astype(np.uint8)).convert(mode)
    suffix = {"CMYK": ".tif", "YCbCr": ".tif"}.get(mode, ".png")
    found = save(tmp_path / f"a{suffix}", image)
    assert np.abs(found.astype(int) - np.asarray(image.convert("RGB"))).max() == 0


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_modes_without_a_range_are_refused(mode, tmp_path):
    image = Image.new("L", (8, 8), 100).convert(mode) if mode != "LAB" else Image.new("LAB", (8, 8))
    with pytest.raises(DataError, match=rf"a\.tif.*mode is {mode}"):
        save(tmp_path / "a.tif", image)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_refused(mode, tmp_path):
    image = Image.new("RGBA", (8, 8), (200, 10, 10, 255))
    image.putpixel((3, 3), (9, 9, 9, 0))
    if mode == "P":
        image = image.convert("RGB").convert("P")
        image.info["transparency"] = 0
        image.putpixel((3, 3), 0)
    with pytest.raises(DataError, match="transparent"):
        save(tmp_path / "a.png", image.convert(mode))


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_phone_picture_is_turned(turn, tmp_path):
    upright = np.zeros((40, 64, 3), np.uint8)
    upright[:12, :16] = 250
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    stored = Image.fromarray(np.ascontiguousarray(undo(upright)))
    np.testing.assert_array_equal(save(tmp_path / "a.png", stored, exif=exif), upright)


def test_whatever_is_no_picture_has_its_name_in_the_message(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    files = {"torn.png": whole[:60], "page.png": b"<!DOCTYPE html>", "empty.png": b""}
    files["bad_chunk.png"] = whole[:20] + b"\xff" * 20 + whole[40:]
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name in (*files, "pipe.png", "folder.png", "missing.png"):
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            read_picture(tmp_path / name)


def test_a_picture_bomb_is_an_error_with_its_name(tmp_path, monkeypatch):
    Image.new("L", (300, 300)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"bomb\.png"):
        read_picture(tmp_path / "bomb.png")
