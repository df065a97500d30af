"""`worldmodel inspect surprise` in simulation and on recorded episodes."""

import json

import pytest
from PIL import Image

from planning.cli.app import main


def test_events_in_simulation(tmp_path, capsys):
    words = ["episodes=2", "length=16", "events=teleport,colour", f"out={tmp_path}", "device=cpu"]
    assert main(["inspect", "surprise", *words]) == 0
    out = capsys.readouterr().out
    assert "teleport" in out
    events = json.loads((tmp_path / "summary.json").read_text())["events"]
    assert list(events) == ["teleport", "colour"]
    assert len(events["teleport"]["errors_with"]) == 2
    assert len(events["teleport"]["errors_with"][0]) == 15
    assert Image.open(tmp_path / "events.png").size[0] > 600


def test_recorded_episodes(tmp_path, capsys):
    data = tmp_path / "data"
    assert main(["collect", f"out={data}", "episodes=2", "length=6", "workers=1"]) == 0
    words = [f"data={data}", f"cache={tmp_path}/cache", f"out={tmp_path}/out", "device=cpu"]
    assert main(["inspect", "surprise", *words]) == 0
    assert "largest" in capsys.readouterr().out
    episodes = json.loads((tmp_path / "out" / "summary.json").read_text())["episodes"]
    assert [len(errors) for errors in episodes] == [5, 5]


@pytest.mark.parametrize("word", ["events=", "objects=", "cache=somewhere", "length=4"])
def test_options_without_effect_are_refused(word, tmp_path):
    assert main(["inspect", "surprise", word, f"out={tmp_path}"]) == 2
