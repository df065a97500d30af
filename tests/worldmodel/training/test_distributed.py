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
from fast_process import TIMEOUT_S, finish, start_ranks

from planning.cli.app import compose_options, main
from worldmodel.errors import CheckpointError, ConfigError, DataError, TrainingError
from worldmodel.training.distributed import Ranks, process_group
from worldmodel.training.run import train

WORDS = ["recipe=smoke", "make_data=4", "plan_clips=0", "steps=6", "save_every=3"]


def launch(out: Path, ranks: int, *more: str) -> None:
    log = out.parent / f"{out.name}.log"
    codes = finish(start_ranks(ranks, ["train", *WORDS, f"out={out}", *more], log))
    assert codes == [0] * ranks, Path(f"{log}.0").read_text()[-3000:]


def rows(out: Path) -> list[dict]:
    return [json.loads(x) for x in (out / "metrics.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in rows(out)]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "run"
    train(compose_options("train", [*WORDS, f"out={out}"]))
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
    norms = [[row["grad_norm"] for row in rows(run)][:3] for run in (out, one)]
    torch.testing.assert_close(norms[0], norms[1], atol=0, rtol=1e-3)
    plain(out)
    torch.testing.assert_close(losses(out), losses(one), atol=1e-5, rtol=0)
    assert (out / "model.safetensors").is_file()


def plain(out: Path, *more: str) -> None:
    """One process without torchrun, here."""
    train(compose_options("train", [*WORDS, f"out={out}", *more]))


def test_one_processs_run_goes_on_with_two_and_back_without_torchrun(one, tmp_path):
    out = data_of(one, tmp_path / "back")
    plain(out, "stop_after=2", "save_every=2")
    launch(out, 2, "parallel=fsdp", "stop_after=4", "save_every=2")
    found = sorted(p.name for p in (out / "checkpoints").iterdir())
    assert found == ["step-00000002", "step-00000004"]
    plain(out)
    torch.testing.assert_close(losses(out), losses(one), atol=1e-5, rtol=0)


def test_torn_sharded_checkpoint_is_named_and_the_one_before_used(one, tmp_path, caplog):
    out = data_of(one, tmp_path / "torn")
    launch(out, 2, "save_every=1", "stop_after=4")
    folder = out / "checkpoints"
    assert sorted(p.name for p in folder.iterdir()) == ["step-00000003", "step-00000004"]
    shard = next((folder / "step-00000004").glob("__1_*"))
    torn = bytearray(shard.read_bytes())
    torn[len(torn) // 2] ^= 1
    shard.write_bytes(torn)
    launch(out, 2, "save_every=100")
    log = (tmp_path / "torn.log.0").read_text()
    assert "step-00000004 is damaged" in log
    assert shard.name in log
    assert "step-00000003" not in log
    assert [x["step"] for x in rows(out)] == list(range(6))
    torch.testing.assert_close(losses(out), losses(one), atol=1e-5, rtol=0)
    for path in folder.glob("step-*/whole.json"):
        path.unlink()
    with pytest.raises(CheckpointError, match="None of the"):
        plain(out)


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(x) for x in found]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
def test_a_killed_rank_ends_the_run_under_torchrun_with_its_name(one, tmp_path):
    out = data_of(one, tmp_path / "dead")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "planning.cli.app", "train", *WORDS, f"out={out}"]
    command += ["steps=100000", "decay=0", "save_every=100000"]
    with (tmp_path / "dead.log").open("w") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
    text = (tmp_path / "dead.log").read_text
    while not (out / "metrics.jsonl").is_file():
        assert child.poll() is None, text()[-3000:]
        time.sleep(0.02)
    os.kill(children(child.pid)[1], signal.SIGKILL)
    assert child.wait(TIMEOUT_S) != 0
    assert "rank      : 1" in text()
    assert "SIGKILL" in text() or "Signal 9" in text()


KINDS = {
    "joint": ["object=1", "steps=4", "plan_clips=0"],
    "pretrain": ["steps=4", "probe_frames=16", "num_frames=2"],
}
SMALL = ["image_size=32", "stem_channels=[4,8]", "encoder_dim=16", "encoder_heads=2", "seed=3"]
SMALL += ["predictor_dim=16", "predictor_depth=1", "predictor_heads=2", "batch_size=8", "augment=0"]
SMALL += ["log_every=1", "val_clips=8", "bf16=false", "threads=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    assert main(["collect", f"out={root}", "episodes=3", "length=8", "workers=1"]) == 0
    return root


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_every_task_runs_on_two_ranks_and_resumes_on_one(data, tmp_path, kind, parallel):
    """Losses are one process's, but for terms that are statistics over each rank's clips."""
    command = "pretrain" if kind == "pretrain" else "train"
    words = [command, f"data={data}", f"val={data}", f"cache={data}/../cache", *SMALL, *KINDS[kind]]
    patch = ["patch_size=8"] if kind == "pretrain" else ["patch_size=32"]
    words += patch + (["variance=0", "covariance=0"] if kind == "joint" else [])
    assert main([*words, f"out={tmp_path}/one"]) == 0
    two = tmp_path / "two"
    more = [f"out={two}", "stop_after=2", "accumulate=2", f"parallel={parallel}"]
    codes = finish(start_ranks(2, [*words, *more], tmp_path / "log"))
    assert codes == [0, 0], (tmp_path / "log.0").read_text()[-3000:]
    assert main([*words, f"out={two}"]) == 0
    torch.testing.assert_close(losses(two), losses(tmp_path / "one"), atol=1e-5, rtol=0)
    name = "encoder.safetensors" if kind == "pretrain" else "model.safetensors"
    assert (two / name).is_file()


@pytest.mark.parametrize(
    ("name", "value"), [("RANK", ""), ("WORLD_SIZE", "x"), ("MASTER_ADDR", "")]
)
def test_an_incomplete_environment_is_named(monkeypatch, name, value):
    given = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for key, text in {**given, name: value}.items():
        monkeypatch.setenv(key, text)
    with pytest.raises(ConfigError, match=f"{name} missing or no number"), process_group("cpu"):
        pass


def test_an_error_in_the_data_is_not_called_the_loss_of_another_rank(monkeypatch):
    monkeypatch.setattr(Ranks, "grouped", property(lambda _: True))
    with pytest.raises(DataError, match=r"^no item$"), Ranks(0, 2).guarded():
        raise DataError("no item")
    with pytest.raises(TrainingError, match="Rank 0 of 2 lost another"), Ranks(0, 2).guarded():
        raise RuntimeError("connection closed")
