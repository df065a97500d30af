"""`worldmodel eval`: what Ctrl-C leaves, and plans of skills."""

import json
from typing import get_args

import numpy as np
import pytest

from planning.apps import episode_runner
from planning.apps.eval_summary import decision_figures
from planning.cli.app import main
from planning.rollout import Episode
from planning.skill_record import SkillRecord, Why
from worldmodel.checkpoints.io import save
from worldmodel.checkpoints.loading import load_world_model
from worldmodel.models.config import ObjectHeadConfig
from worldmodel.models.object_head import ObjectHead
from worldmodel.models.world_model import WorldModel

SMALL = ["samples=20", "iterations=2", "elites=4"]


def test_ctrl_c_keeps_finished_episodes_and_skips_the_baselines(tmp_path, monkeypatch):
    run_episode, seeds = episode_runner.run_episode, []

    def impatient(*args, **options):
        seeds.append(options["seed"])
        if len(seeds) == 2:
            raise KeyboardInterrupt
        return run_episode(*args, **options)

    monkeypatch.setattr(episode_runner, "run_episode", impatient)
    words = ["eval", "task=reach", "episodes=3", "workers=1", *SMALL, f"out={tmp_path}"]
    assert main(words) == 130
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["episodes"], summary["interrupted"], summary["baselines"]) == (1, True, {})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<th>seconds per action</th><td>median " in page  # words and short numbers, not JSON
    assert "&quot;" not in page


@pytest.fixture(scope="module")
def model_with_head(tmp_path_factory):
    """File of the default model with an untrained object head."""
    world = load_world_model("default", "cpu")
    spec = world.config.predictor
    head = ObjectHead(ObjectHeadConfig(token_dim=spec.encoder_dim))
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save(path, WorldModel(world.encoder, world.dynamics, head))
    return path


SKILLS = ["skill_samples=8", "skill_elites=2", "skill_iterations=1", "workers=1"]


def test_one_goal_image_is_planned_with_skills_beside_their_baselines(tmp_path, model_with_head):
    words = ["eval", "task=push", "episodes=1", f"model={model_with_head}", *SKILLS]
    assert main([*words, f"out={tmp_path}"]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    names = {"hold", "random", "pose_only", "geometry", "geometry_yaw", "copy"}
    assert set(summary["baselines"]) == names
    assert summary["planner"]["method"] == "skills"
    assert summary["planner"]["skill_search"]["skill_samples"] == 8
    assert sum(summary["decisions"].values()) >= 1
    assert set(summary["seconds_per_decision"]) == {"median", "p95"}
    (row,) = map(json.loads, (tmp_path / "episodes.jsonl").read_text().splitlines())
    imagined = [d for d in row["decisions"] if d["rest_energy"] is not None]
    for seed_file in (tmp_path / "imagined").glob("*.npz"):
        with np.load(seed_file) as found:
            assert len(found["step_D"]) == len(found["z_DNC"]) == len(imagined)


def test_a_model_without_an_object_head_has_no_geometry_baseline(tmp_path):
    words = ["eval", "task=push", "model=default", "episodes=1", *SKILLS, f"out={tmp_path}"]
    assert main(words) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["baselines"]) == {"hold", "random", "pose_only", "copy"}
    assert summary["seconds_per_decision"]["median"] > 0


def test_options_of_the_other_method_are_refused(capsys):
    assert main(["eval", "task=push", "samples=20"]) == 2
    assert "samples=20 has no effect with method=skills" in capsys.readouterr().err
    assert main(["eval", "task=push", "planner=fast"]) == 2
    assert "planner=fast and published set them" in capsys.readouterr().err
    assert main(["eval", "task=reach", "skill_samples=20"]) == 2
    assert "skill_samples=20 has no effect with method=actions" in capsys.readouterr().err
    assert main(["eval", "task=push", "model=default", "energy=object", "episodes=1"]) == 2
    assert "object head" in capsys.readouterr().err


def test_a_plan_of_skills_names_the_skill_and_its_parameters(tmp_path):
    pictures = ["image=examples/pictures/now.png", "goal=examples/pictures/goal.png"]
    words = ["plan", *pictures, "method=skills", "skill_samples=8", "skill_elites=2"]
    assert main([*words, "skill_iterations=1", f"out={tmp_path}"]) == 0
    found = json.loads((tmp_path / "summary.json").read_text())
    assert len(found["skills"]) == len(found.get("parameters", []))
    assert (found["why"] == "plan") == bool(found["skills"])
    assert found["why"] in get_args(Why)
    assert all(len(action) == 7 for action in found["actions"])


def test_a_replay_of_skills_plans_the_same(tmp_path):
    words = ["drive", "robot=mujoco", "task=push", "execute=true", "confirm=false"]
    words += ["skill_samples=8", "skill_elites=2", "skill_iterations=1", "episodes=1"]
    assert main([*words, f"out={tmp_path}/drive"]) == 0
    assert main(["replay", f"run={tmp_path}/drive", f"out={tmp_path}/replay"]) == 0
    found = json.loads((tmp_path / "replay" / "summary.json").read_text())
    assert found["same"]


def test_a_search_without_a_better_plan_is_timed_as_well():
    facts = {"executed": 1, "energy_now": 1.0, "rest_energy": 1.0}
    decisions = [
        SkillRecord(why="no better plan", seconds={"unroll": 2.0, "other": 1.0}, **facts),
        SkillRecord(why="budget", seconds={"encode": 0.1}, **facts),
    ]
    episode = Episode("push", 0, success=False, error_m=0.1)
    episode.decisions += decisions
    found = decision_figures([episode])
    assert found["seconds_per_decision"]["median"] == 3.0
    assert found["decision_shares"] == {"unroll": 2 / 3, "other": 1 / 3}
    assert found["decisions"] == {"no better plan": 1, "budget": 1}
