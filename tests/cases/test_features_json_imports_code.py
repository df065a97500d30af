"""A module that lies in the data folder, or any other, is not imported at a data file's word."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worldmodel.data.other_layouts import SHARD, framed


@pytest.mark.parametrize("module", ["evilmod", "this"])
def test_the_command_refuses_the_file_and_imports_nothing(tmp_path, module):
    (tmp_path / SHARD).write_bytes(framed(b"abcd"))
    (tmp_path / "evilmod.py").write_text("open('RAN', 'w').close()\nclass F: pass\n")
    described = f'{{"pythonClassName": "{module}.F", "featuresDict": {{"features": {{}}}}}}'
    (tmp_path / "features.json").write_text(described)
    done = subprocess.run(
        [sys.executable, "-m", "worldmodel", "data", "index", "root=.", "out=o", "workers=1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{Path.cwd()}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "features.json names the class" in done.stderr
    assert not (tmp_path / "RAN").exists()
    assert "Beautiful is better" not in done.stdout + done.stderr
