"""A resumed run is the run of its checkpoint: other options, data or weights are refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from planning.cli.app import compose_options, main
from worldmodel.errors import ConfigError
from worldmodel.training.config import JointOptions, PostOptions, PretrainOptions
from worldmodel.training.resume import (
    check_resume,
    data_fingerprint,
    differences,
    option_facts,
    run_facts,
)


class Clips:
    """Clips of given states."""

    def __init__(self, states_B: np.ndarray) -> None:
        self.states_B = states_B

    def __len__(self) -> int:
        return len(self.states_B)

    def content_hash(self) -> str:
        return str(self.states_B)

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {"states": self.states_B[indices]}


def options(*words: str) -> JointOptions:
    return compose_options("train", ["mode=joint", *words])


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("seed=3", "run.seed"),
        ("lr=0.01", "optimizer.lr"),
        ("batch_size=16", "loop.batch_size"),
        ("predictor_heads=2", "predictor.predictor_heads"),
        ("steps=99", "loop.steps"),
        ("bf16=false", "loop.bf16"),
    ],
)
def test_an_option_that_changes_the_mathematics_is_a_difference(word, name):
    before, after = option_facts(options()), option_facts(options(word))
    assert differences(before, after, before) == [name]


def test_where_a_run_is_and_what_it_reports_is_no_difference():
    words = ["out=elsewhere", "data=moved", "val=moved", "threads=1", "device=cpu", "log_every=1"]
    words += ["save_every=1", "eval_every=7", "stop_after=5", "accumulate=2", "plan_clips=0"]
    assert option_facts(options(*words)) == option_facts(options())


@pytest.mark.parametrize("kind", [JointOptions, PostOptions, PretrainOptions])
def test_facts_survive_json_and_older_checkpoints_count_as_the_defaults(kind):
    facts = option_facts(kind())
    assert json.loads(json.dumps(facts)) == facts
    older = {name: value for name, value in facts.items() if name != "optimizer.beta2"}
    assert differences(older, facts, facts) == []
    assert differences(older | {"gone": 1}, facts | {"optimizer.beta2": 0.5}, facts) == [
        "optimizer.beta2"
    ]


def test_data_is_compared_by_content():
    states_B = np.arange(100.0)
    print_of = data_fingerprint(Clips(states_B))
    assert print_of == data_fingerprint(Clips(states_B.copy()))
    assert print_of != data_fingerprint(Clips(states_B[:-1]))
    assert print_of != data_fingerprint(Clips(states_B + 1))


def test_start_weights_are_compared_by_content():
    clips = Clips(np.zeros(3))
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    facts = run_facts(options(), clips, [one])
    assert facts == run_facts(options(), clips, [one])
    changed = run_facts(options(), clips, [other])
    assert differences(facts, changed, {}) == ["start weights"]


def test_a_difference_is_refused_with_the_list_unless_it_is_forced():
    asked = options("seed=3", "lr=0.01")
    facts = run_facts(asked, Clips(np.zeros(3)), [])
    saved = facts | {"run.seed": 0, "optimizer.lr": 1e-3}
    with pytest.raises(ConfigError) as refused:
        check_resume(saved, facts, asked, step=7, where="runs/a")
    for part in ("runs/a", "run.seed: 0 -> 3", "optimizer.lr: 0.001 -> 0.01", "resume=force"):
        assert part in str(refused.value)
    forced = replace(asked, run=replace(asked.run, resume="force"))
    found = check_resume(saved, facts, forced, step=7, where="runs/a")
    assert sorted(found) == ["optimizer.lr", "run.seed"]
    assert check_resume(None, facts, asked, step=7, where="runs/a") == []
    saved = facts | {"forced": ["run.seed"]}
    assert check_resume(saved, facts, asked, step=9, where="runs/a") == ["run.seed"]


def test_the_command_refuses_forces_and_counts_its_steps(tmp_path, capsys):
    out = tmp_path / "run"
    words = ["train", "recipe=smoke", "make_data=4", "plan_clips=0", f"out={out}", "save_every=1"]
    assert main([*words, "steps=3", "stop_after=2"]) == 0
    capsys.readouterr()
    assert main([*words, "steps=3", "seed=9"]) == 2
    assert "run.seed: 0 -> 9" in capsys.readouterr().err
    assert main([*words, "steps=1"]) == 2
    assert "steps=1 is below" in capsys.readouterr().err
    assert main([*words, "steps=3", "seed=9", "resume=force"]) == 0
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert rows[2]["forced run.seed"] == 1.0
    assert "forced run.seed" not in rows[1]
    changed = json.loads((out / "summary.json").read_text())["forced"]
    assert changed == ["run.seed", "start weights"]  # the seed draws the start weights
    assert main([*words, "steps=3", "seed=9"]) == 0  # the record survives another start
    assert json.loads((out / "summary.json").read_text())["forced"] == changed
    whole = json.loads((out / "checkpoints" / "step-00000003" / "whole.json").read_text())
    assert whole["run"]["run.seed"] == 9
