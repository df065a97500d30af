"""`benchmarks/gpu_fetch.sh` with stub commands: every command composes, and the table is last."""

import json
import os
import subprocess
import sys
from pathlib import Path

from planning.cli.app import main

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_fetch.sh"
STUB = f"""#!{sys.executable} -IS
import json, os, sys
from pathlib import Path
words = sys.argv[1:]
if words[:2] != ["-m", "planning.cli.app"]:
    os.execv(sys.executable, [sys.executable, *words])
command, *given = words[2:]
with Path(os.environ["RECORD"]).open("a") as record:
    record.write(json.dumps([command, *given]) + "\\n")
options = dict(word.split("=", 1) for word in given)
out = Path(options["out"])
out.mkdir(parents=True, exist_ok=True)
summary = {{"episodes": 7}}
if command == "train":
    row = {{"step": 60, "samples_per_s": 128.0, "val_true": 0.1, "val_copy": 0.2}}
    (out / "metrics.jsonl").write_text(json.dumps(row) + "\\n")
    if "probe" not in out.name and "stop_after" not in options:
        sys.exit(130)  # out of time
    summary = {{"last": row, "minutes": 1.0}}
if command == "eval":
    summary = {{"successes": 3, "episodes": 4, "success_rate": 0.75, "ci95": [0.3, 0.95]}}
    summary |= {{"baselines": {{"hold": {{"success_rate": 0.0, "ci95": [0.0, 0.5]}}}}}}
(out / "summary.json").write_text(json.dumps(summary))
"""


def test_all_parts_run_and_the_table_is_last(tmp_path, capsys):
    folder, record = tmp_path / "bin", tmp_path / "record"
    folder.mkdir()
    (folder / "python").write_text(STUB)
    (folder / "python").chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", str(SCRIPT), str(tmp_path / "out")],
        env={**os.environ, "PATH": path, "RECORD": str(record), "TRAIN_S": "100", "TASKS": "push"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [line[0] for line in lines].count("eval") == 2
    trainings = [line for line in lines if line[0] == "train" and "_probe" not in line[-1]]
    assert len(trainings) == 4  # out of time, then the rest that writes the model
    assert all("steps=120" in words for words in trainings)  # 0.6 * 100 s * 128/s / 64
    for line in lines:
        assert main([*line, "--cfg", "job"]) == 0, (line, capsys.readouterr().err)
    table = ended.stdout.splitlines()
    assert table[-1].endswith("hold  0% (0%..50%)")
    assert sum("75% (30%..95%)" in line for line in table) == 2
    rows = json.loads((tmp_path / "out" / "fetch.json").read_text())
    assert {row["task"] for row in rows} == {"push"}
