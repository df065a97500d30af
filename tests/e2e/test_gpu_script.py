"""`benchmarks/gpu.sh` with stub commands: composes, resumes, fails where it should.

The stubs record their words and write the files that the table reads; the table itself is real.
"""

import importlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from planning.cli.app import main

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"
STUB = f"""#!{sys.executable} -IS
import json, os, sys, time
from pathlib import Path
name, words = Path(sys.argv[0]).name, sys.argv[1:]
line = " ".join([name, *words])
if words[:2] == ["benchmarks/gpu_report.py", "table"]:
    os.execv(sys.executable, [sys.executable, *words])
if words[:2] == ["benchmarks/gpu_report.py", "check"]:
    if os.environ.get("MISSING"):
        sys.exit("missing:\\n" + os.environ["MISSING"])
    out = Path(words[2])
    (out / "device.txt").write_text("stub\\n")
    (out / "devices.txt").write_text(os.environ.get("DEVICES", "1") + "\\n")
    sys.exit(0)
with Path(os.environ["RECORD"]).open("a") as record:
    record.write(line + "\\n")
options = dict(word.split("=", 1) for word in words if "=" in word)
out = Path(options.get("out", os.environ["RECORD"] + "-none"))
if os.environ.get("SLOW") and os.environ["SLOW"] in str(out):
    time.sleep(60)
if os.environ.get("FAIL") and os.environ["FAIL"] == out.name:
    sys.exit("the stub fails")
if name == "worldmodel" and words[0] == "eval":
    summary = {{"successes": 3, "episodes": 4, "seconds_per_action": {{"median": None}}}}
elif name == "worldmodel" and words[0] == "train":
    summary = {{}}
    out.mkdir(parents=True, exist_ok=True)
    row = json.dumps({{"step": 9, "samples_per_s": 5.5}})
    (out / "metrics.jsonl").write_text(row + "\\n{{torn")
elif name == "worldmodel" and words[0] == "pretrain":
    summary = {{"last": {{"val_mean": None}}}}
else:
    summary = {{"frames": 10, "rows": []}}
out.mkdir(parents=True, exist_ok=True)
(out / "summary.json").write_text(json.dumps(summary))
"""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs the script and returns its status, output and commands."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("worldmodel", "python", "torchrun"):
        (folder / name).write_text(STUB)
        (folder / name).chmod(0o755)

    def start(**environment):
        record = tmp_path / "record"
        record.write_text("")
        path = f"{folder}:{os.environ['PATH']}"
        given = {"PATH": path, "RECORD": str(record), "WORKERS": "2", **environment}
        ended = subprocess.run(
            ["bash", str(SCRIPT), str(tmp_path / "out")],
            env={**os.environ, **given},
            capture_output=True,
            text=True,
            check=False,
        )
        return ended.returncode, ended.stdout, record.read_text().splitlines()

    return start


def outputs(lines):
    words = [word for line in lines for word in shlex.split(line) if word.startswith("out=")]
    return {word.rpartition("/")[2] for word in words}


def test_all_stages_run_once_and_the_table_is_last(run, capsys):
    status, printed, lines = run(DEVICES="2")
    assert status == 0, printed
    assert len(lines) > 40
    for line in lines:
        program, *words = shlex.split(line)
        if program == "torchrun":
            words = words[words.index("planning.cli.app") + 1 :]
        if program != "python":
            assert main([*words, "--cfg", "job"]) == 0, (line, capsys.readouterr().err)
    assert {"post_two_ddp", "post_two_fsdp", "post_compiled"} <= outputs(lines)
    assert "model_one_goal_labelled" in outputs(lines)
    table = printed[printed.index("device: stub") :].splitlines()
    assert table[-1].startswith("eval_model_unlabelled")
    assert table[-1].endswith("3/4, - s/decision")  # a median of nothing is not a number
    assert "step 9, 5.5 samples/s" in printed
    assert run(DEVICES="2")[2] == []


def test_one_device_has_no_stage_of_two(run):
    status, _, lines = run()
    assert status == 0
    assert not any(line.startswith("torchrun") for line in lines)
    assert any("device=cuda" in line and line.startswith("worldmodel eval") for line in lines)


def test_only_the_named_stages_run(run):
    status, _, lines = run(ONLY="planning_2 post_features agreement_tf32")
    assert status == 0
    assert len(lines) == 2  # post_features needs a stage that is not named
    assert outputs(lines) == {"planning_2", "agreement_tf32.json"}


def test_a_failed_stage_skips_what_needs_it_and_nothing_else(run):
    status, printed, lines = run(FAIL="model_unlabelled")
    assert status == 1
    assert "failed: train_unlabelled\n" in printed
    assert "the stub fails" in printed
    done = outputs(lines)
    assert {"model", "eval_model_reach", "model_frozen", "contact"} <= done
    assert not {"one_goal_short", "model_one_goal", "probes_model_unlabelled"} & done
    assert "train_one_goal: skipped, since train_one_goal_short is not done" in printed
    assert printed.splitlines()[-1].startswith("eval_")
    status, printed, again = run()
    assert status == 0, printed
    assert {"model_unlabelled", "one_goal_short", "model_one_goal"} <= outputs(again)
    assert not {"model", "eval_model_reach"} & outputs(again)


def test_a_stage_that_needs_longer_is_stopped_and_continued(run):
    status, printed, lines = run(SLOW="/pretrain", STAGE_S="2")
    assert status == 75
    assert "not finished: pretrain\n" in printed
    assert "model_frozen" not in outputs(lines)
    status, _, again = run()
    assert status == 0
    assert {"pretrain", "model_frozen"} <= outputs(again)


def test_a_call_of_limited_length_leaves_the_rest_for_the_next(run):
    only = {"ONLY": "agreement_tf32 agreement_bfloat16 encoder"}
    status, printed, lines = run(SLOW="agreement_tf32", TOTAL_S="5", LEAST_S="1", **only)
    assert status == 75
    assert outputs(lines) <= {"agreement_tf32.json"}
    assert "not finished: agreement_tf32 agreement_bfloat16 encoder\n" in printed
    assert "encoder: left for the next call\n" in printed
    status, _, lines = run(**only)
    assert status == 0
    assert outputs(lines) >= {"agreement_tf32.json", "agreement_bfloat16.json"}


def test_nothing_runs_if_something_is_missing(run):
    status, _, lines = run(MISSING="no EGL")
    assert status == 2
    assert lines == []


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("gpu_report")
    sys.modules.pop("gpu_report", None)


def test_the_check_names_what_is_missing(report, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(report, "FREE_BYTES", 1e18)
    with pytest.raises(SystemExit) as ended:
        report.check(tmp_path, "cuda")
    said = str(ended.value)
    assert "`worldmodel` is not on PATH" in said
    assert "GB free; needed: 1000000000 GB" in said
    assert not (tmp_path / "device.txt").exists()


def test_the_check_passes_on_a_complete_machine(report, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "FREE_BYTES", 0)
    monkeypatch.setattr(report.shutil, "which", lambda program: program)
    report.check(tmp_path, "cpu")
    assert (tmp_path / "devices.txt").read_text() == "0\n"


def test_the_table_of_an_empty_or_torn_folder(report, tmp_path, capsys):
    (tmp_path / "encoder.json").write_text('{"rows": [')
    (tmp_path / "planning_1").mkdir()
    row = {"size": "ac", "horizon": 1, "samples": 8, "iterations": 2, "baseline_s": None}
    row |= {"exact_s": 2.5, "bf16_s": None, "max_abs_diff": None}
    (tmp_path / "planning_1" / "summary.json").write_text(json.dumps({"rows": [row]}))
    report.table(tmp_path)
    printed = capsys.readouterr().out
    assert "published loop - s, ours 2.5 s, bf16 - s, compiled - s, largest difference -" in printed


def test_flops_of_an_encoder_are_those_that_torch_counts(monkeypatch):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from worldmodel.models.attention import set_backend
    from worldmodel.models.encoder import VisionTransformer, preset

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    encoder_flops = importlib.import_module("gpu_encoder").encoder_flops
    config = preset("vit_tiny", image_size=(64, 64), num_frames=4)
    model = VisionTransformer(config).eval()
    set_backend(model, "plain")  # torch does not count its fused attention on a CPU
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        tokens = model(torch.randn(1, 3, 4, 64, 64)).shape[1]
    assert encoder_flops(config, tokens) == pytest.approx(counter.get_total_flops(), rel=0.01)
