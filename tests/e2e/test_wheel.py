"""The wheel, installed on its own, runs the commands in an empty folder."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


PACKAGES = ("worldmodel", "planning", "robot", "envs")
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that the checkout gets no build outputs."""
    out = tmp_path_factory.mktemp("wheel")
    for name in (*PACKAGES, "configs"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, out / "source" / name, ignore=ignore)
    for name in FILES:
        shutil.copy(ROOT / name, out / "source" / name)
    words = ["wheel", "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(out)]
    subprocess.run([sys.executable, "-m", "pip", *words, str(out / "source")], check=True)
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def run(wheel, tmp_path_factory):
    """Run Python with the installed wheel in an empty folder."""
    site, empty = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("empty")
    words = ["install", "--no-deps", "--no-index", "--quiet", "--target", str(site), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)

    def call(*words: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(site)}
        done = subprocess.run(
            [sys.executable, *words], cwd=empty, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    call.site, call.folder = site, empty
    return call


def test_contents(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {n.split("/")[0] for n in names if ".dist-info" not in n}
    assert tops == set(PACKAGES)
    configs = {f"worldmodel/{p.relative_to(ROOT)}" for p in (ROOT / "configs").rglob("*.yaml")}
    assert configs
    assert configs <= names
    shipped = ("default", "one_goal", "one_goal_labelled", "unlabelled")
    shipped += ("one_goal_labelled-decoder",)
    assert {f"worldmodel/weights/{name}.safetensors" for name in shipped} <= names
    assert {f"{top}/py.typed" for top in tops} <= names
    assert any(n.endswith(".dist-info/licenses/LICENSE") for n in names)


COMMANDS = """
import worldmodel, planning, robot, envs
from planning.cli.app import main
search = ["skill_samples=8", "skill_iterations=1"]
pictures = sys.argv[1]
for words in (
    ["demo", "episodes=1", "workers=1", *search, "out=demo"],
    ["eval", "task=reach", "episodes=1", "workers=1", "baselines=false", "out=eval"],
    ["plan", f"image={pictures}/now.png", f"goal={pictures}/goal.png", "out=plan"],
):
    assert main(words) == 0, words
print(*(package.__file__ for package in (worldmodel, planning, robot, envs)))
"""


def test_commands(run):
    found = run("-c", f"import sys{COMMANDS}", str(ROOT / "examples" / "pictures"))
    files = found.splitlines()[-1].split()
    assert len(files) == len(PACKAGES)
    assert all(Path(file).is_relative_to(run.site) for file in files)
    demo, evaluation, plan = (
        json.loads((run.folder / name / "summary.json").read_text())
        for name in ("demo", "eval", "plan")
    )
    assert demo["episodes"] == 1
    assert evaluation["successes"] == 1
    assert plan["actions"][0][0] > 0.03  # x: toward the goal, 5 cm away
    assert plan["actions"][0][1] > 0.03  # y: 6 cm


def test_recipes_are_found(run):
    assert "steps" in run("-m", "planning.cli.app", "train", "recipe=smoke", "--cfg", "job")
