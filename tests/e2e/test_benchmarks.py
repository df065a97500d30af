"""The benchmarks' scripts import, their commands compose, their pages show their figures."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest

from planning.cli.app import main

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
SCRIPTS = sorted(p.stem for p in BENCHMARKS.glob("*.py"))


@pytest.fixture(autouse=True)
def as_a_script(monkeypatch):
    """Import modules of the folder by their plain names, as a script does."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in SCRIPTS:
        sys.modules.pop(name, None)


def composes(words):
    return main([*words, "--cfg", "job"]) == 0


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_imports(name):
    importlib.import_module(name)


def test_the_commands_of_the_comparison_of_pretraining_compose(capsys):
    pretraining = importlib.import_module("pretraining")
    options = {"data": "data", "val": "val", "budget_s": "360"}
    stages = {s.name: s for arm in pretraining.ARMS.values() for s in arm.stages}
    for stage in stages.values():
        words = pretraining.stage_words(stage, options)
        assert composes([*words, "steps=100", "out=out"]), capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "page"),
    [
        ("evaluate", "results"),
        ("planning_speed", "planning"),
        ("install_size", "install"),
        ("pretraining", "pretraining"),
        ("robot_safety", "robot-faults"),
        ("scaling", "scaling"),
        ("twin", "robot-twin"),
    ],
)
def test_a_page_shows_the_figures_of_its_results(script, page, tmp_path, monkeypatch):
    module = importlib.import_module(script)
    copy = tmp_path / f"{page}.md"
    shutil.copy(ROOT / "docs" / f"{page}.md", copy)
    monkeypatch.setattr(module, "PAGE", copy)
    if script in ("evaluate", "planning_speed"):
        module.write_page()
    elif script == "pretraining":
        titles = {name: arm.title for name, arm in module.ARMS.items()}
        module.fill_blocks(copy, module.blocks(module.read(module.RESULT), titles))
    elif script == "robot_safety":
        found = module.json.loads(module.OUT.read_text("utf-8"))
        # The other parts were measured before rotations were capped by their angle.
        module.write_page({"layer": found["layer"]})
    else:
        results = module.RESULT if script == "install_size" else module.OUT
        module.write_page(module.json.loads(results.read_text("utf-8")))
    shown = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert copy.read_text(encoding="utf-8") == shown


def test_agreement_computes_the_arrays_of_a_folder(tmp_path, capsys):
    agreement = importlib.import_module("agreement")
    out = tmp_path / "agreement.json"
    agreement.main([f"golden={ROOT / 'tests' / 'golden'}", f"out={out}"])
    found = json.loads(out.read_text("utf-8"))
    assert not found["not_computed"]
    assert not found["failed"]
    assert len(found["arrays"]) == 21
    assert 0 < found["largest"] < agreement.ALLOWED
    with pytest.raises(SystemExit, match="gold"):
        agreement.main(["gold=x"])
