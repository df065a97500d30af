import subprocess
import sys
from pathlib import Path

import pytest

from worldmodel import resources

ROOT = Path(resources.__file__).parents[1]


def test_the_groups_are_found_in_a_checkout():
    assert resources.config_folder() == ROOT / "configs"


def test_configs_inside_the_package_come_first(tmp_path, monkeypatch):
    package = tmp_path / "worldmodel"
    (package / "configs" / "train").mkdir(parents=True)
    (tmp_path / "configs" / "train").mkdir(parents=True)
    monkeypatch.setattr(resources, "__file__", str(package / "resources.py"))
    assert resources.config_folder() == package / "configs"


def test_an_incomplete_installation_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "__file__", str(tmp_path / "worldmodel" / "resources.py"))
    with pytest.raises(resources.ConfigError, match="incomplete"):
        resources.config_folder()


@pytest.mark.parametrize("name", ["envs", "robot"])
@pytest.mark.parametrize("module", ["envs/__init__.py", "envs.py", "envs/model.txt"])
def test_a_folder_of_the_users_that_hides_a_package_is_named(name, module, tmp_path):
    file = tmp_path / module.replace("envs", name)
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    code = "from planning.cli.app import main; raise SystemExit(main(['demo', '--help']))"
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    if module.endswith(".txt"):  # a plain folder hides nothing: regular packages win
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 2
        assert f"`{name}` is imported from {tmp_path}" in done.stderr
        assert "Rename" in done.stderr
