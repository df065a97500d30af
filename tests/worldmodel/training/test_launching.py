import json

import pytest
import torch

from planning.cli.app import main, parse_options
from planning.cli.train import Options
from worldmodel.errors import ConfigError
from worldmodel.training.launching import JobOptions, submit
from worldmodel.training.tasks.post import posttrain

WORDS = ["recipe=smoke", "make_data=4", "plan_clips=0", "steps=4"]


def test_two_processes_through_submitits_local_executor(tmp_path):
    one = parse_options("train", Options, [*WORDS, f"out={tmp_path / 'one'}"])
    posttrain(one)
    words = ["launcher=local", "processes_per_node=2", "minutes=5"]
    assert main(["train", *WORDS, f"out={tmp_path / 'two'}", *words]) == 0
    rows = [
        [json.loads(x)["loss"] for x in (tmp_path / n / "metrics.jsonl").read_text().splitlines()]
        for n in ("one", "two")
    ]
    torch.testing.assert_close(rows[0], rows[1], atol=1e-5, rtol=0)


def test_unknown_cluster_is_refused(tmp_path):
    options = parse_options("train", Options, [*WORDS, f"out={tmp_path}"])
    with pytest.raises(ConfigError, match="allowed: slurm, local"):
        submit(options, JobOptions(cluster="pbs"))
