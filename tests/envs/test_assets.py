"""The scene needs the packaged model files only; the twin says what it needs."""

import importlib.metadata
import importlib.resources
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import envs
import envs.twin.twin
from envs.errors import EnvError


def test_the_packaged_model_is_the_one_that_franky_sim_has():
    franky_sim = importlib.util.find_spec("franky_sim")
    if franky_sim is None:
        pytest.skip("franky-sim is not installed")
    folder = Path(franky_sim.origin).parent / "assets"
    archive = importlib.resources.files("envs") / "assets" / "franka_fr3.zip"
    with archive.open("rb") as file, zipfile.ZipFile(file) as parts:
        for name in parts.namelist():
            original = folder / name if name == "fr3.xml" else folder / "meshes" / name
            assert parts.read(name) == original.read_bytes(), name


def test_environments_and_robots_work_without_franky_sim():
    code = (
        "import sys; sys.modules['franky_sim'] = sys.modules['pinocchio'] = None\n"
        "import envs, envs.twin, planning.apps.franka_workcell\n"
        "env = envs.make('reach', image_size=32); env.reset(seed=0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("found", [None, "2.0.0"])
def test_the_twin_names_the_command_that_installs_what_it_needs(monkeypatch, found):
    def version(name):
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    for name in [name for name in sys.modules if name.startswith("envs.twin.")]:
        if name not in ("envs.twin.twin", "envs.twin.messages"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(EnvError, match="pip install"):
        envs.twin.twin.Twin("reach")


@pytest.mark.parametrize("size", [17, 64, 300, 700])
def test_pictures_have_the_size_that_was_asked_for(size):
    env = envs.make("reach", image_size=size)
    seen, _ = env.reset(seed=0)
    assert seen["image"].shape == (size, size, 3)
    assert seen["image"].std() > 10
    env.close()
