import json
import os

import pytest
import torch

from planning.cli.app import compose_options, main
from worldmodel.checkpoints.loading import resolve_device
from worldmodel.errors import ConfigError
from worldmodel.training.launching import gpus_per_node, submit
from worldmodel.training.run import train

WORDS = ["recipe=smoke", "make_data=4", "plan_clips=0", "steps=4"]


def test_two_processes_through_submitits_local_executor(tmp_path):
    train(compose_options("train", [*WORDS, f"out={tmp_path / 'one'}"]))
    words = ["launcher=local", "processes_per_node=2", "minutes=5"]
    assert main(["train", *WORDS, f"out={tmp_path / 'two'}", *words]) == 0
    rows = [
        [json.loads(x)["loss"] for x in (tmp_path / n / "metrics.jsonl").read_text().splitlines()]
        for n in ("one", "two")
    ]
    torch.testing.assert_close(rows[0], rows[1], atol=1e-5, rtol=0)
    assert json.loads((tmp_path / "two" / "summary.json").read_text())["processes"] == 2


def test_a_batch_that_does_not_divide_is_refused_before_a_job_is_queued(tmp_path, capsys):
    words = ["train", "recipe=sim_small", f"out={tmp_path}", "launcher=slurm", "nodes=4"]
    assert main([*words, "batch_size=36", "accumulate=4"]) == 2
    assert "batch_size=36 is not divisible by accumulate=4 x 4" in capsys.readouterr().err


def test_unknown_cluster_is_refused(tmp_path, capsys):
    assert main(["train", *WORDS, f"out={tmp_path}", "launcher=pbs"]) == 2
    assert "here, slurm, local" in capsys.readouterr().err


SBATCH = """#!/bin/sh
cp "$1" "$(dirname "$0")/asked"
echo "Submitted batch job 7"
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A PATH with commands of Slurm; returns a function that submits a run.

    It returns what the job asks for, and the options that its processes get.
    """
    for name, text in (("srun", "#!/bin/sh\n"), ("sbatch", SBATCH)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def send(*words):
        words = ["recipe=smoke", f"out={tmp_path / 'run'}", "launcher=slurm", *words]
        job = submit(lambda _: {}, compose_options("train", words))
        lines = (tmp_path / "asked").read_text().splitlines()
        flags = [x.removeprefix("#SBATCH --") for x in lines if x.startswith("#SBATCH --")]
        asked = dict(flag.split("=", 1) for flag in flags if "=" in flag)
        return asked, job.submission().function.options

    return send


def test_a_slurm_job_asks_for_a_gpu_and_cores_per_process_and_memory(cluster):
    asked, options = cluster("nodes=2", "processes_per_node=4", "batch_size=8")
    names = ("nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "mem")
    assert [asked[name] for name in names] == ["2", "4", "4", "8", "0"]
    assert options.run.device == "cuda"  # without CUDA, the job fails instead of using its CPU
    with pytest.raises(ConfigError, match="not available"):
        resolve_device(options.run.device)
    more = ["gpus_per_node=8", "cpus_per_process=3", "mem_gb=100", "partition=big"]
    asked, _ = cluster("processes_per_node=2", "batch_size=8", *more)
    names = ("gpus-per-node", "cpus-per-task", "mem", "partition")
    assert [asked[name] for name in names] == ["8", "3", "100GB", "big"]


@pytest.mark.parametrize("words", [["device=cpu"], ["gpus_per_node=0"]])
def test_a_slurm_job_on_cpus_asks_for_no_gpu(cluster, words):
    asked, options = cluster(*words)
    assert asked.get("gpus-per-node", "0") == "0"
    assert resolve_device(options.run.device).type == "cpu"


@pytest.mark.parametrize(
    ("found", "device", "asked"), [(2, "auto", 2), (2, "cpu", 0), (0, "auto", 0)]
)
def test_jobs_on_this_machine_see_its_gpus(monkeypatch, tmp_path, found, device, asked):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    words = ["recipe=smoke", f"out={tmp_path}", "launcher=local", f"device={device}"]
    assert gpus_per_node(compose_options("train", words)) == asked


def test_a_job_on_this_machine_without_cuda_is_refused_at_once(tmp_path, capsys):
    words = ["train", "recipe=smoke", f"out={tmp_path}", "launcher=local", "device=cuda"]
    assert main(words) == 2
    assert "torch finds 0 CUDA devices" in capsys.readouterr().err


@pytest.mark.parametrize("launcher", ["here", "local"])
@pytest.mark.parametrize("word", ["gpus_per_node=1", "cpus_per_process=2", "mem_gb=3"])
def test_what_only_slurm_can_be_asked_for_is_refused_elsewhere(tmp_path, capsys, launcher, word):
    assert main(["train", "recipe=smoke", f"out={tmp_path}", f"launcher={launcher}", word]) == 2
    assert f"{word} has no effect with launcher={launcher}" in capsys.readouterr().err
