"""A 16-bit grey picture keeps its brightness for `plan` and for the encoders."""

import numpy as np
from PIL import Image

from planning.pictures import read_image
from worldmodel.data.pictures import read_picture


def test_the_ramp_is_a_ramp(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    for read in (read_picture, read_image):
        frame = read(tmp_path / "ramp.png")
        assert abs(frame.mean() - 127.5) < 1
        assert (frame == 255).mean() < 0.01
