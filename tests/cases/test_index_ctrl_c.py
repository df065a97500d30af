"""Ctrl-C in `data index` ends it at once; the next run inspects only what is left."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from worldmodel.data.writers.synthetic import write_dataset

COPIES = 150
TIMEOUT_S = 240


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_next_run_inspects_only_what_is_left(tmp_path, number):
    write_dataset(tmp_path / "in", episodes=1, seed=0)
    (trajectory,) = (tmp_path / "in").rglob("trajectory.h5")
    for i in range(COPIES):
        shutil.copytree(trajectory.parent, trajectory.parent.with_name(f"copy-{i}"))
    words = ["data", "index", f"root={tmp_path}/in", f"out={tmp_path}/out", "workers=2"]
    command = [sys.executable, "-m", "worldmodel", *words]
    child = subprocess.Popen(
        command,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    seen, until = tmp_path / "out" / ".seen.jsonl", time.monotonic() + TIMEOUT_S
    while not seen.exists():
        assert child.poll() is None
        assert time.monotonic() < until
        time.sleep(0.002)
    os.killpg(child.pid, number)
    assert child.wait(TIMEOUT_S) == 128 + number
    kept = seen.read_text().count('"unit"')
    assert 1 <= kept < COPIES
    subprocess.run(command, check=True, timeout=TIMEOUT_S)
    summary = json.loads((Path(tmp_path) / "out" / "summary.json").read_text())
    assert summary["inspected"] == 1 + COPIES - kept
