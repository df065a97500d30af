"""The benchmarks' scripts import, their commands compose, their pages show their figures."""

import contextlib
import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
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
        ("rollouts", "results"),
        ("planning_speed", "planning"),
        ("install_size", "install"),
        ("pretraining", "pretraining"),
        ("play_pretraining", "pretraining"),
        ("shapes_pretraining", "pretraining"),
        ("shape_surprise", "pretraining"),
        ("dense", "probes"),
        ("probe_cost", "probes"),
        ("probe_set", "probes"),
        ("robot_safety", "robot-faults"),
        ("robustness", "robustness"),
        ("searches", "planning"),
        ("before_after", "cuda"),
        ("cuda_guard", "cuda"),
        ("serve", "serve"),
        ("scaling", "scaling"),
        ("twin", "robot-twin"),
        ("your_data", "your-data"),
    ],
)
def test_a_page_shows_the_figures_of_its_results(script, page, tmp_path, monkeypatch):
    module = importlib.import_module(script)
    copy = tmp_path / f"{page}.md"
    shutil.copy(ROOT / "docs" / f"{page}.md", copy)
    monkeypatch.setattr(module, "PAGE", copy)
    if script == "evaluate":
        readme = tmp_path / "README.md"
        shutil.copy(ROOT / "README.md", readme)
        monkeypatch.setattr(module, "README", readme)
    if script in ("evaluate", "planning_speed", "rollouts"):
        module.write_page()
    elif script == "pretraining":
        titles = {name: arm.title for name, arm in module.ARMS.items()}
        module.fill_blocks(copy, module.blocks(module.read(module.RESULT), titles))
    else:
        results = module.RESULT if hasattr(module, "RESULT") else module.OUT
        writer = sys.modules[module.write_page.__module__]
        monkeypatch.setattr(writer, "PAGE", copy)
        writer.write_page(json.loads(results.read_text("utf-8")))
    shown = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert copy.read_text(encoding="utf-8") == shown
    if script == "evaluate":
        assert readme.read_text(encoding="utf-8") == (ROOT / "README.md").read_text("utf-8")


def test_pages_on_environments_show_the_figures_of_their_results(tmp_path, monkeypatch):
    pages = {name: tmp_path / f"{name}.md" for name in ("environments", "your-environment")}
    for name, copy in pages.items():
        shutil.copy(ROOT / "docs" / f"{name}.md", copy)
    baselines, experts = map(importlib.import_module, ("baselines", "experts"))
    monkeypatch.setattr(baselines, "ENVIRONMENTS", pages["environments"])
    monkeypatch.setattr(baselines, "YOUR_ENVIRONMENT", pages["your-environment"])
    monkeypatch.setattr(experts, "PAGE", pages["environments"])
    baselines.write_pages(json.loads(baselines.OUT.read_text("utf-8")))
    experts.show(json.loads(experts.OUT.read_text("utf-8")))
    for name, copy in pages.items():
        assert copy.read_text("utf-8") == (ROOT / "docs" / f"{name}.md").read_text("utf-8")


def test_names_of_results_need_no_quotes():
    assert not [path for path in (BENCHMARKS / "results").rglob("*") if set(path.name) & set(" ,:")]


def test_counts_of_a_check_are_read_from_its_output_if_it_passed():
    module = importlib.import_module("robustness")
    printed = "eval: {'refused': 3, 'accepted': 1}\n..data dense: {'refused': 4}\n2 passed in 1 s\n"
    assert module.counted("fuzz", printed) == {"refused": 7, "accepted": 1}
    assert module.counted("cases", "36 of 36 cases as expected") == {"right": 36, "of": 36}
    for check, text in (
        ("fuzz", printed + "1 failed, 2 passed"),
        ("cases", "35 of 36 cases as expected"),
        ("kills", "no tests ran in 1 s"),
    ):
        with pytest.raises(ValueError, match="was not passed"):
            module.counted(check, text)


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
    with pytest.raises(SystemExit, match="float32"):
        agreement.main(["precision=int8"])


def test_agreement_names_what_it_cannot_compute_and_computes_the_rest(tmp_path, capsys):
    agreement = importlib.import_module("agreement")
    folder, out = tmp_path / "set", tmp_path / "out.json"
    folder.mkdir()
    with pytest.raises(SystemExit, match="has none of golden"):
        agreement.main([f"golden={folder}", f"out={out}"])
    with np.load(ROOT / "tests/golden/perception/golden_perception.npz") as file:
        kept = {n: file[n] for n in file.files if n.startswith(("lr_", "frames_", "recall_"))}
    first = next(name for name in kept if name.startswith("frames_"))
    kept |= {"lr_wsd_50": np.array(["a"]), "new_array": np.zeros(2), first: kept[first][:1]}
    kept["recall_at_1"] = np.array(np.nan)
    kept.pop("recall_valid_classes")
    np.savez(folder / "golden_perception.npz", **kept)
    sizes = {"parts": {"vjepa2": {"config": {"seed": 31}}}}
    (folder / "golden_perception.json").write_text(json.dumps(sizes))
    with pytest.raises(SystemExit):
        agreement.main([f"golden={folder}", f"out={out}"])
    found = json.loads(out.read_text("utf-8"))
    right = [name for name in kept if name.startswith("frames_") and name != first]
    assert found["arrays"].keys() == {*right, *("lr_linear_50", "lr_probe_50")} | {
        *("recall_at_5", "recall_accuracy")
    }
    assert found["largest"] < agreement.ALLOWED
    assert {"new_array", "recall_at_5_valid_only"} == set(found["not_computed"])
    failed = found["failed"]
    assert "data type <U1" in failed["lr_wsd_50"]
    assert "golden array has numbers that are not finite" in failed["recall_at_1"]
    assert "instead of (1," in failed[first]
    assert "input recall_valid_classes" in failed["agreement_surprise.recall_of_valid_classes"]
    assert "golden_perception.json lacks parts.ijepa" in failed["agreement_ijepa.features"]
    (folder / "golden_perception.npz").write_bytes(b"PK")
    with pytest.raises(SystemExit):
        agreement.main([f"golden={folder}", f"out={out}"])
    assert "golden_perception.npz" in json.loads(out.read_text("utf-8"))["failed"]


def test_agreement_of_bfloat16_is_a_share_of_the_norm(tmp_path):
    agreement = importlib.import_module("agreement")
    out = tmp_path / "agreement.json"
    folder = ROOT / "tests" / "golden" / "perception"
    agreement.main([f"golden={folder}", f"out={out}", "precision=bfloat16"])
    found = json.loads(out.read_text("utf-8"))
    assert not found["not_computed"]
    assert 1e-3 < found["share"] < agreement.ALLOWED_SHARE["bfloat16"]


def test_a_killed_run_through_the_safety_layer_resumes(tmp_path, monkeypatch):
    layer = importlib.import_module("robot_layer")
    monkeypatch.setattr(layer, "CHUNK", 20)
    path = tmp_path / "layer.jsonl"
    whole = layer.check_layer(50, path)
    assert (whole["commands"], whole["not_finite"]) == (50, 0)
    assert 0 < whole["turn_rad"] <= layer.LIMITS.max_step_rad + 1e-6
    first, second, _ = path.read_text().splitlines()
    path.write_text(f"{first}\n{second[:40]}")
    again = layer.check_layer(50, path)
    assert again | {"seconds_median": 0} == whole | {"seconds_median": 0}
    assert len(path.read_text().splitlines()) == 4  # the torn line, and the two that were missing


def test_a_killed_run_of_the_faults_resumes_and_a_spoilt_one_is_repeated(tmp_path, monkeypatch):
    faults = importlib.import_module("robot_faults")
    calls = []

    def measure():
        calls.append(None)
        if len(calls) == 2:
            raise faults.RobotError("the machine was busy")
        return {"stop_s": 0.1 * len(calls), "left_m": 0.01, "told_s": 0.2, "message": "stopped"}

    monkeypatch.setattr(faults, "Twin", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(faults, "faults", lambda _: {"fault": measure})
    found = faults.measure_faults(tmp_path / "faults.jsonl", 2)
    assert [row["stop_s"] for row in found["fault"]] == pytest.approx([0.1, 0.3])
    assert faults.measure_faults(tmp_path / "faults.jsonl", 2) == found
    assert len(calls) == 3
    table = importlib.import_module("robot_safety").fault_table(found)
    assert "| fault | 0.20 s (0.10 to 0.30) | 10 mm | 0.20 s | stopped |" in table
