"""An index that was made with a relative root works from every folder."""

import json
import shutil

from planning.cli.app import main
from worldmodel.data.writers.synthetic import write_dataset


def test_prepare_from_another_folder(tmp_path, monkeypatch, capsys):
    write_dataset(tmp_path / "in", episodes=1, steps=40, size=(48, 64))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["data", "index", "root=in", "out=index", "workers=1"]) == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["data", "prepare", "index=../index", "out=p", "image_size=32"]) == 0
    assert json.loads((tmp_path / "elsewhere/p/summary.json").read_text())["shards"] == 1
    shutil.move(tmp_path / "in", tmp_path / "moved")
    assert main(["data", "prepare", "index=../index", "out=q", "image_size=32"]) != 0
    said = capsys.readouterr().err
    assert str(tmp_path / "in") in said
    assert "root=" in said, "the message names the command that indexes the moved folder"
