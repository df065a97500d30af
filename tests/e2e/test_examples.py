"""The scripts of examples/ run, and do what they say."""

import importlib.util
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def script():
    """Load a script by its name."""

    def load(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_a_plan_from_two_pictures_moves_toward_the_goal(script):
    action = script("plan_from_two_pictures").main()
    assert action[:2] == pytest.approx([0.05, 0.06], abs=0.015)


def test_reaching_in_mujoco(script):
    assert script("evaluate_in_mujoco").main(2) == 2


def test_training_on_episodes(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    last = script("train_on_your_episodes").main(str(tmp_path / "work"), "4")
    assert last["val_true"] > 0


def test_the_pictures_are_those_that_the_script_renders(script, tmp_path, monkeypatch):
    module = script("make_pictures")
    monkeypatch.setattr(module, "PICTURES", tmp_path)
    module.main()
    for name in ("now.png", "goal.png"):
        ours, made = (Image.open(p / name) for p in (EXAMPLES / "pictures", tmp_path))
        assert ours.size == made.size
        a, b = (list(x.resize((16, 16)).convert("L").getdata()) for x in (ours, made))
        assert max(abs(i - j) for i, j in zip(a, b, strict=True)) < 12  # renderers differ a little
