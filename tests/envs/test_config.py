"""Options of `collect` are checked, and importing them is light."""

import subprocess
import sys

import pytest

from envs.config import CollectConfig
from envs.errors import ConfigError


@pytest.mark.parametrize(
    "options",
    [
        {"episodes": 0},
        {"length": 1},
        {"image_size": 33},
        {"workers": 0},
        {"split": "test"},
        {"fidelity": "best"},
        {"objects": ()},
        {"cameras": ("left", "up")},
    ],
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))}.*allowed"):
        CollectConfig(**options)


def test_options_import_neither_mujoco_nor_torch():
    code = "import sys, envs.config; print({'mujoco', 'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
