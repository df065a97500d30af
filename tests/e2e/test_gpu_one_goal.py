"""`benchmarks/gpu_one_goal.py`: every command composes; parts end, resume and are stopped."""

import sys
import tarfile
from pathlib import Path

import pytest

from planning.cli.app import compose_options

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NESTED = {"train decoder", "inspect probes", "inspect surprise"}


@pytest.fixture
def bench(monkeypatch):
    """Import the script's modules."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_one_goal

    return gpu_one_goal


def command_and_options(words):
    """Split the words behind `python -m worldmodel`."""
    count = 2 if " ".join(words[3:5]) in NESTED else 1
    return " ".join(words[3 : 3 + count]), words[3 + count :]


def test_every_command_of_the_run_is_valid(bench, tmp_path, monkeypatch):
    import evaluate

    made = {}

    def run(parts, name, words, limit_s, *, partial=False):
        made[name] = words
        out = next((Path(word[4:]) for word in words if word.startswith("out=")), None)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / "model.safetensors").write_bytes(b"")
        return True

    def decode(run, data, cores):
        run.has_data[data.name] = True

    monkeypatch.setenv("CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(bench.Parts, "run", run)
    monkeypatch.setattr(bench.Run, "decode", decode)
    found = bench.Run(tmp_path / "out")
    found.all()
    assert not found.parts.notes
    for name, words in made.items():
        if words[1] == "-m":
            command, options = command_and_options(words)
            assert compose_options(command, options) is not None, name
        else:
            assert evaluate.Request.read(words[2:]).row in evaluate.ROWS
    long = " ".join(made["one_goal_labelled_2"])
    assert "carry_wall_more" in long
    assert "contact_more" in long
    for model in bench.RECIPES:
        assert (tmp_path / "out" / f"{model}.safetensors").is_file()
    with tarfile.open(tmp_path / "out" / "results.tar.gz") as tar:
        assert not any("data/" in name for name in tar.getnames())


def test_a_part_is_run_once_and_what_exceeds_its_limit_is_stopped(bench, tmp_path):
    parts = bench.Parts(tmp_path, total_s=1000)
    count = [sys.executable, "-c", f"open({str(tmp_path / 'count')!r}, 'a').write('x')"]
    assert parts.run("count", count, 60)
    assert parts.run("count", count, 60)
    assert (tmp_path / "count").read_text() == "x"
    endless = [sys.executable, "-c", "import time; time.sleep(600)"]
    assert not parts.run("endless", endless, 1)
    assert parts.run("recording", endless, 1, partial=True)
    assert not parts.run("missing", [str(tmp_path / "no program")], 60)
    assert [note.split(":")[0] for note in parts.notes] == ["endless", "missing"]
    parts.total_s = 0
    assert not parts.run("late", count, 60)
