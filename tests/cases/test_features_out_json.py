"""The summary of a command never replaces another file, nor the output itself."""

import json

import h5py
import numpy as np
from PIL import Image

from planning.cli.app import main


def test_the_features_and_the_neighbour_are_kept(tmp_path, capsys):
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    words = ["features", f"videos={tmp_path / 'a.png'}", "model=default", "transform=squeeze"]
    assert main([*words, f"out={tmp_path / 'f.json'}"]) == 0
    assert h5py.is_hdf5(tmp_path / "f.json")
    (tmp_path / "x.json").write_text('{"mine": 1}')
    for _ in range(2):
        assert main([*words, f"out={tmp_path / 'x.h5'}"]) == 0
    assert (tmp_path / "x.json").read_text() == '{"mine": 1}'
    assert json.loads((tmp_path / "x.h5.json").read_text())["videos"] == 1
    (tmp_path / "y.h5.json").write_text('{"mine": 1}')
    assert main([*words, f"out={tmp_path / 'y.h5'}"]) == 2
    assert "y.h5.json exists" in capsys.readouterr().err
    assert (tmp_path / "y.h5.json").read_text() == '{"mine": 1}'
    assert not (tmp_path / "y.h5").exists()


def test_convert_keeps_its_source_and_its_neighbour(tmp_path, capsys):
    from worldmodel.checkpoints.loading import embedded_path

    source = tmp_path / "m.safetensors"
    source.write_bytes(embedded_path().read_bytes())
    assert main(["convert", f"source={source}", f"out={source}"]) == 2
    assert "is the input source=" in capsys.readouterr().err
    assert source.read_bytes() == embedded_path().read_bytes()
