"""The benchmark of made clips: what its tables tell, and that finished runs are taken over."""

import importlib
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = ("shapes_pretraining", "shape_surprise")


@pytest.fixture(autouse=True)
def as_a_script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in ("option_words", "page_blocks", "shapes_page", *SCRIPTS):
        sys.modules.pop(name, None)


def judged(step, direction, position_px):
    return {
        "step": step,
        "shape": 0.25,
        "direction": direction,
        "speed": 0.75,
        "position_px": position_px,
    }


def arm(objective, seed, *course, steps=400):
    return {"objective": objective, "seed": seed, "steps": steps, "course": list(course)} | course[
        -1
    ]


def result_of(*arms):
    named = {f"{a['objective']}-{a['seed']}": a for a in arms}
    return {"test_clips": 1000, "arms": named}


def test_seeds_are_summed_up_by_mean_and_range_of_complete_runs():
    page = importlib.import_module("shapes_page")
    arms = [arm("latent", seed, judged(400, 0.5 + seed / 10, 2 + seed)) for seed in (0, 1)]
    begun = arm("latent", 2, judged(100, 0.9, 9.0))
    table = page.seed_table(result_of(*arms, begun))
    assert "| 0, 1 | 250 (250 to 250) | 550 (500 to 600) |" in table
    assert "| 2.50 (2.00 to 3.00) px |" in table
    assert page.seed_table(result_of(arms[0])) == ""


def test_the_lead_is_the_first_length_that_is_as_good_as_the_end_of_pixels():
    page = importlib.import_module("shapes_page")
    course = [judged(100, 0.4, 4.0), judged(200, 0.6, 3.0), judged(400, 0.7, 2.5)]
    pixels = arm("pixels", 1, judged(400, 0.6, 2.0))
    table = page.lead_table(result_of(arm("latent", 1, *course), pixels))
    assert "| 1 | 400 | 100 | 200 | 100 | never |" in table
    end_alone = arm("latent", 1, judged(400, 0.7, 2.5))
    assert page.lead_table(result_of(end_alone, pixels)) == ""


def test_finished_runs_are_taken_over_without_training(tmp_path, monkeypatch):
    script = importlib.import_module("shapes_pretraining")
    monkeypatch.setattr(script.subprocess, "Popen", lambda *_, **__: pytest.fail("trains"))
    (tmp_path / "latent-1").mkdir()
    course = {"steps": 400, "course": [judged(400, 0.5, 2.0)]}
    (tmp_path / "latent-1" / "judged.json").write_text(json.dumps(course), "utf-8")
    result = tmp_path / "result.json"
    words = ["only=results", f"out={tmp_path}", f"result={result}", "seeds=1"]
    monkeypatch.setattr(sys, "argv", ["shapes_pretraining.py", *words])
    script.main()
    arms = json.loads(result.read_text("utf-8"))["arms"]
    assert list(arms) == ["latent-1"]
    assert arms["latent-1"]["direction"] == 0.5


def test_a_variant_runs_without_the_objectives():
    script = importlib.import_module("shapes_pretraining")
    options = script.read_options(["objectives=", "variants=latent_lr", "seeds=2"])
    names = [job.name for job in script.jobs_of(options)]
    assert names == ["untrained-0", "raw-0", "latent_lr-2"]


def test_surprise_is_compared_by_window_and_summed_over_a_scene():
    script = importlib.import_module("shape_surprise")
    kept = [
        {"group": group, "name": f"{group}/{number}", "possible": [[0, number]], "impossible": [b]}
        for group, b in (("vanishes", [1, 0]), ("appears", [1, 5]))
        for number in (10, 2)
    ]
    both = script.EVENTS[-1]
    possible, impossible = (
        script.curves_of(kept, both, side, 0) for side in ("possible", "impossible")
    )
    assert [curve.tolist() for curve in possible] == [[0, 4], [0, 20]]
    assert [curve.tolist() for curve in impossible] == [[2, 5], [2, 5]]
    assert [script.won(possible, impossible, window) for window in (0, 1)] == [2, 1]


def test_the_table_of_surprise_has_intervals():
    script = importlib.import_module("shape_surprise")
    row = {"event": "jumps", "context": 4, "pairs": 200, "won": 177, "won_at_event": 200}
    row |= {"won_after": 100, "auroc_mean": 0.6, "auroc_mean_ci95": [0.5, 0.7]}
    table = script.surprise_table({"latent-1": [row]}).splitlines()
    assert "| 1 | jumps | 200 of 200 (98 to 100 %) | 100 of 200 (43 to 57 %) |" in table[2]
    assert table[2].endswith("| 177 of 200 (83 to 92 %) | 0.60 (0.50 to 0.70) |")
