"""`worldmodel collect` continues a data set of the same options only."""

import json

import pytest

from envs.config import CollectConfig
from envs.errors import ConfigError
from planning.cli.app import main
from planning.cli.collect import require_same_options

BASE = ["collect", "episodes=1", "length=2", "image_size=32", "workers=1"]


def test_other_options_are_refused_with_their_list(tmp_path, capfd):
    assert main([*BASE, f"out={tmp_path}"]) == 0
    assert main([*BASE[:3], "image_size=64", "walls=0.5", f"out={tmp_path}"]) == 2
    printed = capfd.readouterr().err
    assert "image_size=32 there, 64 here; walls=0.0 there, 0.5 here" in printed
    assert "another out=" in printed


def test_more_episodes_of_other_seeds_are_added(tmp_path):
    assert main([*BASE, f"out={tmp_path}"]) == 0
    words = [word for word in BASE if not word.startswith("episodes")]
    assert main([*words, "episodes=2", "seed=0", f"out={tmp_path}"]) == 0
    assert json.loads((tmp_path / "summary.json").read_text())["already_there"] == 1
    assert len(list(tmp_path.glob("*/*/*/episode-*"))) == 2


def test_episodes_of_a_version_with_fewer_options_are_added_to(tmp_path):
    options = CollectConfig(out=str(tmp_path))
    require_same_options(options)
    (tmp_path / "SIM/success/2026-01-01/episode-00000000").mkdir(parents=True)
    record = tmp_path / "collect.json"
    kept = json.loads(record.read_text())
    del kept["task"]
    record.write_text(json.dumps(kept))
    require_same_options(options)
    with pytest.raises(ConfigError, match="task=pick_place there, over_wall here"):
        require_same_options(CollectConfig(out=str(tmp_path), task="over_wall"))


def test_a_lerobot_set_is_written_and_grows(tmp_path):
    words = ["collect", "length=4", "image_size=32", "workers=1", "format=lerobot"]
    assert main([*words, "episodes=1", f"out={tmp_path}"]) == 0
    assert main([*words, "episodes=2", f"out={tmp_path}"]) == 0
    info = json.loads((tmp_path / "meta" / "info.json").read_text())
    assert (info["total_episodes"], info["total_frames"], info["fps"]) == (2, 8, 4)
    assert len(list((tmp_path / "raw").glob("*/*/*/episode-*"))) == 2
