import json

import torch

from planning.cli.app import compose_options, main
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
