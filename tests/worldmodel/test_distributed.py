"""Two gloo processes beside one: the same losses, resume on other ranks, a dead rank."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from planning.cli.app import parse_options
from planning.cli.train import Options
from worldmodel.posttrain import posttrain

WORDS = ["recipe=smoke", "make_data=4", "plan_clips=0", "steps=6", "save_every=3"]


def launch(out: Path, ranks: int, *more: str, wait: bool = True) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={ranks}", "-m", "planning.cli.app", "train"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (out.parent / f"{out.name}.log").open("w") as log:
        child = subprocess.Popen(
            [*command, *WORDS, f"out={out}", *more], env=env, stdout=log, stderr=log
        )
    if wait:
        text = (out.parent / f"{out.name}.log").read_text
        assert child.wait(120) == 0, text()[-3000:]
    return child


def losses(out: Path) -> list[float]:
    return [json.loads(x)["loss"] for x in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "run"
    posttrain(parse_options("train", Options, [*WORDS, f"out={out}"]))
    return out


def data_of(one: Path, out: Path) -> Path:
    shutil.copytree(one / "data", out / "data")
    return out


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_have_one_processs_losses_and_resume_on_one(one, tmp_path, parallel):
    out = data_of(one, tmp_path / "two")
    launch(out, 2, f"parallel={parallel}", "stop_after=3")
    torch.testing.assert_close(losses(out), losses(one)[:3], atol=1e-5, rtol=0)
    launch(out, 1, f"parallel={parallel}")
    torch.testing.assert_close(losses(out), losses(one), atol=1e-5, rtol=0)
    assert (out / "model.safetensors").is_file()


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(x) for x in found]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
def test_a_killed_rank_ends_the_run_with_its_name(one, tmp_path):
    out = data_of(one, tmp_path / "dead")
    child = launch(out, 2, "steps=100000", "decay=0", "save_every=100000", wait=False)
    for _ in range(600):
        if (out / "metrics.jsonl").is_file() and len(children(child.pid)) == 2:
            break
        time.sleep(0.1)
    time.sleep(1)
    os.kill(children(child.pid)[1], signal.SIGKILL)
    started = time.perf_counter()
    assert child.wait(60) != 0
    assert time.perf_counter() - started < 60
    log = (tmp_path / "dead.log").read_text()
    assert "rank      : 1" in log
    assert "SIGKILL" in log or "Signal 9" in log
