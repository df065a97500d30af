"""Without a home folder, the message names the variable, and commands without a cache work."""

import os
import pwd

import pytest

from planning.cli.app import main


@pytest.fixture
def _unknown_user(monkeypatch):
    def unknown(uid):
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME", "WORLDMODEL_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("_unknown_user")
def test_the_message_names_the_variable(capsys, monkeypatch, tmp_path):
    assert main(["models"]) == 2
    assert "set WORLDMODEL_CACHE" in capsys.readouterr().err
    monkeypatch.setenv("WORLDMODEL_CACHE", "~somebody/cache")
    assert main(["models"]) == 2
    assert "WORLDMODEL_CACHE" in capsys.readouterr().err
    monkeypatch.setenv("WORLDMODEL_CACHE", str(tmp_path))
    assert main(["models"]) == 0


@pytest.mark.usefixtures("_unknown_user")
def test_commands_without_a_cache_need_no_home(tmp_path):
    assert os.environ.get("HOME") is None
    assert (
        main(
            [
                "plan",
                "image=examples/pictures/now.png",
                "goal=examples/pictures/goal.png",
                "samples=2",
                "elites=2",
                "iterations=1",
                f"out={tmp_path}",
            ]
        )
        == 0
    )
