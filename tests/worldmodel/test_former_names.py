"""Scripts that import modules by their former names keep running, with a warning."""

import importlib
import sys

import pytest

import worldmodel  # registers the names
from worldmodel.former_names import FORMER

OPTIONAL = {"envs.twin_camera", "envs.twin_joints", "envs.twin_server", "envs.twin_touch"}


@pytest.mark.parametrize("former", sorted(FORMER))
def test_a_former_name_is_the_present_module(former):
    if former in OPTIONAL:
        pytest.importorskip("franky_sim")
    sys.modules.pop(former, None)
    with pytest.warns(DeprecationWarning, match=FORMER[former]):
        module = importlib.import_module(former)
    present = importlib.import_module(FORMER[former])
    assert module is present
    assert present.__name__ == present.__spec__.name == FORMER[former]


def test_the_functions_that_load_keep_their_names():
    from worldmodel.checkpoint import load, load_published

    assert load.__name__ == "load"
    assert load_published.__name__ == "load_published"
    assert callable(worldmodel.load)
