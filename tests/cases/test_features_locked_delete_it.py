"""An output file that another process has open is named so, and a folder is named a folder."""

import subprocess
import sys

import h5py
import pytest

from worldmodel.errors import DataError
from worldmodel.perception.hdf5_file import open_results

HOLD = """
import sys, h5py
with h5py.File(sys.argv[1], "a") as file:
    file["x"] = 1
    print("open", flush=True)
    sys.stdin.read()
"""


def refusal(path) -> str:
    with pytest.raises(DataError) as refused:
        open_results(path)
    assert "delete" not in str(refused.value)
    assert str(path) in str(refused.value)
    return str(refused.value)


def test_a_file_in_use_is_not_called_damaged(tmp_path):
    path = tmp_path / "f.h5"
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "open\n"
    assert "another process has it open" in refusal(path)
    child.communicate()
    with open_results(path) as file:
        assert file["x"][()] == 1


def test_other_reasons_are_named(tmp_path):
    (tmp_path / "folder.h5").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder.h5")
    (tmp_path / "text.h5").write_text("not HDF5")
    assert "not an HDF5 file" in refusal(tmp_path / "text.h5")
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file["x"] = range(10_000)
    data = (tmp_path / "whole.h5").read_bytes()
    (tmp_path / "torn.h5").write_bytes(data[: len(data) // 2])
    assert "damaged" in refusal(tmp_path / "torn.h5")
    (tmp_path / "file").touch()
    assert "cannot be opened" in refusal(tmp_path / "file" / "f.h5")
