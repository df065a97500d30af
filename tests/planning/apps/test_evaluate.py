"""`worldmodel eval`: worker processes, and what Ctrl-C leaves."""

import json

from planning.apps import evaluate
from planning.cli.app import main

SMALL = ["samples=20", "iterations=2", "elites=4"]


def test_worker_processes_find_what_one_process_finds(tmp_path):
    words = ["eval", "task=reach", "episodes=2", "baselines=false", "pictures=false"]
    words += ["samples=8", "iterations=1", "elites=2", "stretch=1", "sub_goals=one"]
    for workers in (1, 2):
        assert main([*words, f"workers={workers}", f"out={tmp_path}/{workers}"]) == 0
    one, two = ((tmp_path / n / "episodes.jsonl").read_text() for n in "12")
    assert one == two


def test_ctrl_c_keeps_finished_episodes_and_skips_the_baselines(tmp_path, monkeypatch):
    run_episode, seeds = evaluate.run_episode, []

    def impatient(*args, **options):
        seeds.append(options["seed"])
        if len(seeds) == 2:
            raise KeyboardInterrupt
        return run_episode(*args, **options)

    monkeypatch.setattr(evaluate, "run_episode", impatient)
    words = ["eval", "task=reach", "episodes=3", "workers=1", *SMALL, f"out={tmp_path}"]
    assert main(words) == 130
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["episodes"], summary["interrupted"], summary["baselines"]) == (1, True, {})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<th>final error [m]</th><td>median " in page  # words and short numbers, not JSON
    assert "&quot;" not in page
