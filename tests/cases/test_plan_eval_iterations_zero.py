"""A search of no iterations, a deadline below 0 or NaN, or no episode is refused: no action."""

import numpy as np
import pytest
from PIL import Image

from planning.cli.app import main
from planning.errors import PlanError
from planning.solvers.registry import NAMES, make_optimiser


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        noise = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{name}.png")
    return [f"image={tmp_path / 'a.png'}", f"goal={tmp_path / 'b.png'}"]


WORDS = ("iterations=0", "iterations=-1", "deadline_s=-1", "deadline_s=nan", "samples=0")


@pytest.mark.parametrize("word", WORDS)
def test_plan_refuses_to_plan_without_a_search(word, images, tmp_path, capfd):
    assert main(["plan", *images, word, f"out={tmp_path / 'out'}"]) == 2
    said = capfd.readouterr()
    assert '"action' not in said.out
    assert f"{word} is not allowed. Allowed: " in said.err


@pytest.mark.parametrize("word", ["episodes=0", "episodes=-1", *WORDS])
def test_eval_refuses_it(word, tmp_path, capfd):
    assert main(["eval", "task=reach", word, f"out={tmp_path / 'out'}"]) == 2
    assert f"{word} is not allowed. Allowed: " in capfd.readouterr().err


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", [{"iterations": 0}, {"samples": -1}])
def test_no_solver_of_the_library_takes_it_either(name, wrong):
    with pytest.raises(PlanError, match="out of range"):
        make_optimiser(name, **({"samples": 64, "iterations": 2, "elites": 8} | wrong))
