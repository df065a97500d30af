"""`convert` says what lies in the place of the weights, in one line."""

import pytest
import torch

from planning.cli.app import main


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("torch.safetensors", None, "a torch file, not safetensors"),
        ("vitl.pt", b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    ],
)
def test_one_line(name, content, words, tmp_path, capsys):
    path = tmp_path / name
    if content is None:
        torch.save({"encoder": {}}, path)
    else:
        path.write_bytes(content)
    assert main(["convert", f"source={path}", f"out={tmp_path / 'o.safetensors'}"]) != 0
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
