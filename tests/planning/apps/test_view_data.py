"""`worldmodel data view` writes a page of any data set or index, with a verdict."""

import re

import pytest

from planning.cli.app import main
from tests.worldmodel.data.own_names import FRONT, write_own_lerobot
from worldmodel.data.readers import lerobot_list
from worldmodel.data.writers.synthetic import random_states, write_dataset

NAMES = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
STATES = [random_states(60, seed) for seed in (0, 1)]
MAP = [f"left={FRONT}", "state=observation.state[0:6]", "gripper=observation.state[6]"]


@pytest.fixture(autouse=True)
def forget():
    for cached in (lerobot_list.read_info, lerobot_list.list_episodes):
        cached.cache_clear()


@pytest.fixture
def own(tmp_path):
    return write_own_lerobot(
        tmp_path / "set", STATES, column=lambda s: (s, s), names=NAMES, image_views=True
    )


def view(*words):
    return main(["data", "view", "workers=1", *words])


def test_a_page_shows_cameras_states_and_actions(own, tmp_path, capsys):
    out = tmp_path / "out"
    assert view(f"root={own}", f"out={out}", *MAP, "actions=target", "action=action[0:6]") == 0
    page = (out / "data.html").read_text()
    assert page.count('class="second"') == 2 * 7
    assert len(re.findall(r'<img src="data:image/png', page)) == 2 * 6
    assert "http://" not in page
    assert str(out / "data.html") in capsys.readouterr().out


def test_an_index_is_shown_as_it_is(own, tmp_path, capsys):
    index = tmp_path / "index"
    assert main(["data", "index", f"root={own}", f"out={index}", "workers=1", *MAP]) == 0
    assert view(f"root={index}", f"out={tmp_path / 'out'}", "episodes=1") == 0
    assert "agree with them by definition" in capsys.readouterr().out
    assert view(f"root={index}", f"out={tmp_path / 'out'}", *MAP) == 2
    assert "has no effect" in capsys.readouterr().err


def test_raw_droid_is_shown_too(tmp_path):
    root = write_dataset(tmp_path / "droid", episodes=1, steps=30)
    assert view(f"root={root}", f"out={tmp_path / 'out'}") == 0
    assert "30 steps, 15 Hz, success, task" in (tmp_path / "out" / "data.html").read_text()


@pytest.mark.parametrize(("words", "text"), [([], "root is empty"), (["root=/none"], "not exist")])
def test_nothing_to_show_is_one_error(tmp_path, capsys, words, text):
    assert view(f"out={tmp_path / 'out'}", *words) == 2
    assert text in capsys.readouterr().err
