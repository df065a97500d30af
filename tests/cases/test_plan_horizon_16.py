"""The longest horizon is the same number wherever it is written, and the message states it."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from planning.apps.policies import check_steps
from planning.cli.app import main
from planning.errors import PlanError
from planning.planner_options import PlannerOptions
from worldmodel.checkpoints.loading import load_world_model


@pytest.mark.parametrize("history", [1, 2])
@pytest.mark.parametrize("name", ["horizon", "stretch"])
def test_every_allowed_number_of_steps_fits_the_model(name, history):
    world = load_world_model("default", "cpu")
    last = world.predictor.config.num_frames - history
    options = PlannerOptions(history=history)
    check_steps(world, dataclasses.replace(options, **{name: last}))
    with pytest.raises(PlanError, match=f"{name} is {last + 1}; allowed: 1 to {last}"):
        check_steps(world, dataclasses.replace(options, **{name: last + 1}))


def test_plan_ends_with_a_plan_or_a_message(tmp_path, capsys):
    generator = np.random.default_rng(0)
    for name in "ab":
        noise = generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{name}.png")
    pictures = [f"image={tmp_path / 'a.png'}", f"goal={tmp_path / 'b.png'}", f"out={tmp_path}"]
    small = ["samples=4", "iterations=1", "elites=2", "gate_m=0"]
    assert main(["plan", *pictures, *small, "horizon=15"]) == 0
    assert main(["plan", *pictures, *small, "horizon=16"]) != 0
    assert "horizon is 16; allowed: 1 to 15" in capsys.readouterr().err
    assert main(["plan", *pictures, *small, "state=[5,0,0.28,3.14,0,0,0]"]) != 0
    assert "x is 5; allowed: -3 to 3 m" in capsys.readouterr().err
