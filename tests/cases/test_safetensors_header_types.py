"""Headers that lie about types and sizes end in one line, before any memory is asked for."""

import json
import struct

import pytest

from planning.cli.app import main

NAME = "encoder.embeddings.patch_embeddings.proj.weight"
PATCH = 64 * 3 * 2 * 256 * 4


def entry(**changes):
    return {NAME: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}}


HEADERS = {
    "negative": (entry(shape=[-2, -2], data_offsets=[0, 16]), 16),
    "zero": (entry(shape=[0, 10**12, 10**12], data_offsets=[0, 0]), 0),
    "dtype": (entry(dtype=["F32"]), 4),
    "float": (entry(shape=[1.0]), 4),
    "null": (entry(shape=[None]), 4),
    "text offsets": (entry(data_offsets=["0", "4"]), 4),
    "overlap": (
        {
            f"encoder.layer.{i}.x": {"dtype": "F32", "shape": [2**18], "data_offsets": [0, 2**20]}
            for i in range(600)
        },
        2**20,
    ),
    "block number": (
        {
            NAME: {"dtype": "F32", "shape": [64, 3, 2, 16, 16], "data_offsets": [0, PATCH]},
            "encoder.layer.1000000000.mlp.fc1.weight": {
                "dtype": "F32",
                "shape": [1],
                "data_offsets": [PATCH, PATCH + 4],
            },
            "encoder.layer.0.mlp.fc1.weight": {
                "dtype": "F32",
                "shape": [64, 64],
                "data_offsets": [PATCH + 4, PATCH + 4 + 16384],
            },
        },
        PATCH + 4 + 16384,
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_one_line(name, tmp_path, capsys):
    header, size = HEADERS[name]
    text, path = json.dumps(header).encode(), tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    out = tmp_path / "o.safetensors"
    assert main(["convert", f"source={path}", "num_heads=2", f"out={out}"]) == 2
    assert str(path) in capsys.readouterr().err
    assert not out.exists()
