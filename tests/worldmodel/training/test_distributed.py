"""Two gloo processes beside one: equal losses, resume on other ranks, torn files, a dead rank."""

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
from worldmodel.errors import CheckpointError
from worldmodel.training.tasks.post import posttrain

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


def rows(out: Path) -> list[dict]:
    return [json.loads(x) for x in (out / "metrics.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in rows(out)]


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
    micro = "accumulate=2" if parallel == "ddp" else "accumulate=1"
    launch(out, 2, f"parallel={parallel}", "stop_after=3", micro)
    torch.testing.assert_close(losses(out), losses(one)[:3], atol=1e-5, rtol=0)
    launch(out, 1, f"parallel={parallel}")
    torch.testing.assert_close(losses(out), losses(one), atol=1e-5, rtol=0)
    assert (out / "model.safetensors").is_file()


def plain(out: Path, *more: str) -> None:
    """One process without torchrun, here."""
    posttrain(parse_options("train", Options, [*WORDS, f"out={out}", *more]))


def test_one_processs_run_goes_on_with_two_and_back_without_torchrun(one, tmp_path):
    out = data_of(one, tmp_path / "back")
    plain(out, "stop_after=2", "save_every=2")
    launch(out, 2, "parallel=fsdp", "stop_after=4", "save_every=2")
    assert sorted(p.name for p in (out / "checkpoints").glob("dcp-*")) == ["dcp-00000004"]
    plain(out)
    torch.testing.assert_close(losses(out), losses(one), atol=1e-5, rtol=0)


def test_torn_sharded_checkpoint_is_named_and_the_one_before_used(one, tmp_path, caplog):
    out = data_of(one, tmp_path / "torn")
    launch(out, 2, "save_every=1", "stop_after=4")
    folder = out / "checkpoints"
    assert sorted(p.name for p in folder.iterdir()) == ["dcp-00000003", "dcp-00000004"]
    shard = next((folder / "dcp-00000004").glob("__1_*"))
    torn = bytearray(shard.read_bytes())
    torn[len(torn) // 2] ^= 1
    shard.write_bytes(torn)
    launch(out, 2, "save_every=100")
    log = (tmp_path / "torn.log").read_text()
    assert "dcp-00000004 is torn" in log
    assert shard.name in log
    assert "dcp-00000003" not in log
    assert [x["step"] for x in rows(out)] == list(range(6))
    torch.testing.assert_close(losses(out), losses(one), atol=1e-5, rtol=0)
    for path in folder.glob("dcp-*/whole.json"):
        path.unlink()
    with pytest.raises(CheckpointError, match="None of the"):
        plain(out)


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
