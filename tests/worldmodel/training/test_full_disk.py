"""A small tmpfs that really fills up (in a mount namespace of the test's own)."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from planning.cli.app import parse_options
from planning.cli.train import Options
from worldmodel.training.tasks.post import posttrain

SCRIPT = """
set -e
mount -t tmpfs -o size=3m none "$1"
shift
exec "$@"
"""


def namespace() -> bool:
    command = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs none /mnt"]
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not namespace(), reason="may not mount a tmpfs here")
@pytest.mark.parametrize("processes", [1, 2])
def test_full_disk_stops_with_a_message(tmp_path, processes):
    data = tmp_path / "data-run"
    words = ["recipe=smoke", "plan_clips=0", "steps=8", "save_every=1"]
    posttrain(parse_options("train", Options, [*words, f"out={data}", "stop_after=1"]))
    small = tmp_path / "small"
    small.mkdir()
    run = [sys.executable, "-m"]
    if processes > 1:
        run += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    run += ["planning.cli.app", "train", *words, f"out={small}"]
    run += ["make_data=0", f"data={data / 'index'}", f"val={data / 'index'}", "predictor_depth=6"]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", SCRIPT, "sh", str(small), *run],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == (2 if processes == 1 else 1), done.stderr[-2000:]
    assert "error: Cannot write the checkpoint" in done.stderr
    assert "Free space" in done.stderr
    assert processes > 1 or "Traceback" not in done.stderr  # torchrun prints its own
    assert json.loads((data / "metrics.jsonl").read_text().splitlines()[0])["step"] == 0
