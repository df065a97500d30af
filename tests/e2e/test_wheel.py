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
    """Run a command of the installed wheel in an empty folder."""
    site, empty = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("empty")
    words = ["install", "--no-deps", "--no-index", "--quiet", "--target", str(site), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)

    def call(*words: str, code: str = "") -> str:
        program = ["-c", code] if code else ["-m", "planning.cli.app", *words]
        environment = os.environ | {"PYTHONPATH": str(site)}
        done = subprocess.run(
            [sys.executable, *program], cwd=empty, env=environment, capture_output=True, text=True
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
    assert {f"worldmodel/weights/{name}.safetensors" for name in shipped} <= names
    assert {f"{top}/py.typed" for top in tops} <= names
    assert any(n.endswith(".dist-info/licenses/LICENSE") for n in names)


def test_packages_come_from_the_wheel(run):
    code = "import worldmodel, planning, robot, envs; print(worldmodel.__file__, envs.__file__)"
    assert run(code=code).count(str(run.site)) == 2


def test_demo(run):
    run("demo", "episodes=1", "out=demo")
    assert json.loads((run.folder / "demo" / "summary.json").read_text())["episodes"] == 1


def test_eval(run):
    run("eval", "task=reach", "episodes=1", "workers=1", "baselines=false", "out=eval")
    assert json.loads((run.folder / "eval" / "summary.json").read_text())["successes"] == 1


def test_plan(run):
    pictures = ROOT / "examples" / "pictures"
    run("plan", f"image={pictures}/now.png", f"goal={pictures}/goal.png", "out=plan")
    actions = json.loads((run.folder / "plan" / "summary.json").read_text())["actions"]
    assert actions[0][0] > 0.03  # x: toward the goal, 5 cm away
    assert actions[0][1] > 0.03  # y: 6 cm


def test_recipes_are_found(run):
    assert "steps" in run("train", "recipe=smoke", "--cfg", "job")
