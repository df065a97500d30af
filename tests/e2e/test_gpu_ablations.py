"""`benchmarks/gpu_ablations.sh` with a stub of `worldmodel`: composes, resumes, survives failures.

The stub records its words and writes the files that the report reads; the report is real.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from planning.cli.app import main

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_ablations.sh"
STUB = f"""#!{sys.executable} -IS
import json, os, sys
from pathlib import Path
words = sys.argv[1:]
if words[:2] != ["-m", "worldmodel"]:
    os.execv(sys.executable, [sys.executable, *words])
words = words[2:]
with Path(os.environ["RECORD"]).open("a") as record:
    record.write(" ".join(words) + "\\n")
options = dict(word.split("=", 1) for word in words if "=" in word)
out = Path(options["out"])
if os.environ.get("FAIL") == out.name:
    sys.exit("the stub fails")
out.mkdir(parents=True, exist_ok=True)
summary = {{"successes": 3, "episodes": 4, "parameters": 6_500_000}}
if words[0] == "train":
    loop = {{"batch_size": int(options["batch_size"]), "steps": int(options["steps"])}}
    summary["options"] = {{"loop": loop}}
    (out / "metrics.jsonl").write_text(json.dumps({{"samples_per_s": 1280.0}}) + "\\n")
if words[0] == "inspect":
    summary["rollouts"] = {{"pushed": {{"8": {{"imagined_cm": 4.56}}}}}}
(out / "summary.json").write_text(json.dumps(summary))
"""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs the script and returns its status, output and commands."""
    stub = tmp_path / "python"
    stub.write_text(STUB)
    stub.chmod(0o755)

    def start(**environment):
        record = tmp_path / "record"
        record.write_text("")
        given = {"PYTHON": str(stub), "RECORD": str(record), "PHASE_S": "50", **environment}
        ended = subprocess.run(
            ["bash", str(SCRIPT), str(tmp_path / "out")],
            env={**os.environ, **given},
            capture_output=True,
            text=True,
            check=False,
        )
        return ended.returncode, ended.stdout + ended.stderr, record.read_text().splitlines()

    return start


def outputs(lines):
    words = [word for line in lines for word in shlex.split(line) if word.startswith("out=")]
    return {word.rpartition("/")[2] for word in words}


def test_every_arm_runs_once_with_the_same_steps_and_the_table_is_last(run, tmp_path, capsys):
    status, printed, lines = run(ARMS="base adaln short no_head state tokens")
    assert status == 0, printed
    for line in lines:
        assert main([*shlex.split(line), "--cfg", "job"]) == 0, (line, capsys.readouterr().err)
    trained = [line for line in lines if "/first_" in line.rpartition("out=")[2]]
    assert len(trained) == 6
    assert all("steps=500" in line.split() for line in trained)  # 50 s at 10 steps/s
    table = printed[printed.index("| arm") :].splitlines()
    assert len(table) == 8
    assert "| 6.50 M | 500/250 | 4.6 cm | - | 3/4 | 3/4 |" in table[2]
    assert (tmp_path / "out" / "ablations.tar.gz").stat().st_size > 0
    assert run(ARMS="base adaln short no_head state tokens")[2] == []


def test_a_failed_part_stops_its_arm_alone_and_is_repeated(run, tmp_path):
    words = {"ARMS": "base adaln", "SHORT_DATA": "data=a val=b", "VAL": "b"}
    status, printed, lines = run(FAIL="first_adaln", **words)
    assert status == 1
    assert "first_adaln failed with status 1" in printed
    assert not any(line.startswith("collect") for line in lines)
    assert {"eval_base_pick_place", "eval_base_over_wall"} <= outputs(lines)
    assert "model_adaln" not in outputs(lines)
    status, _, again = run(**words)
    assert status == 0
    assert {"first_adaln", "model_adaln", "eval_adaln_pick_place"} <= outputs(again)
    assert "eval_base_pick_place" not in outputs(again)
    rows = json.loads((tmp_path / "out" / "ablations.json").read_text())["rows"]
    assert [row["arm"] for row in rows] == ["adaln", "base"]


def test_nothing_begins_after_the_time_is_over(run):
    status, _, lines = run(TOTAL_S="0", SHORT_DATA="data=a val=b", VAL="b")
    assert status != 0
    assert lines == []
