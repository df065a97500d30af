"""A missing extra is an error that names the `pip install` line."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HIDE = """
import importlib.metadata, importlib.util, sys
from importlib.machinery import PathFinder

class Hidden(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in HIDDEN else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [Hidden if f is PathFinder else f for f in sys.meta_path]
real = importlib.metadata.version
def version(name):
    if name.replace("-", "_") in HIDDEN:
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)
importlib.metadata.version = version
"""
USES = {
    "twin": ("franky_sim", "from envs.twin.twin import Twin\nTwin('reach').__enter__()"),
    "robot": (
        "franky",
        "from robot.franka.arm import FrankaArm, FrankaConfig\n"
        "FrankaArm(FrankaConfig(address='127.0.0.1'))",
    ),
    "robot (cameras)": (
        "cv2",
        "from robot.cameras.camera import OpenCVCamera\nOpenCVCamera(0).__enter__()",
    ),
    "realsense": (
        "pyrealsense2",
        "from robot.cameras.realsense import RealSenseCamera\nRealSenseCamera().__enter__()",
    ),
    "fetch": ("gymnasium_robotics", "from envs.fetch import FetchPush\nFetchPush()"),
    "robotiq": (
        "minimalmodbus",
        "from robot.grippers.robotiq import RobotiqGripper\nRobotiqGripper('/dev/null')",
    ),
    "serve": ("msgpack", "from planning.remote.wire import pack\npack({})"),
    "rlds": (
        "tensorflow_datasets",
        "from pathlib import Path\nfrom worldmodel.data.readers.layouts import find_units\n"
        "Path('x.tfrecord').touch()\nfind_units(Path('.'))",
    ),
    "lerobot": (
        "pyarrow",
        "from pathlib import Path\nfrom worldmodel.data.readers.layouts import find_units\n"
        "Path('meta').mkdir()\nPath('meta/info.json').write_text('{}')\nfind_units(Path('.'))",
    ),
    "hf": (
        "transformers",
        "from worldmodel import load_encoder\nload_encoder('hf:facebook/dinov2-small', 'cpu')",
    ),
    "flash": (
        "flash_attn",
        "import torch\nfrom types import SimpleNamespace\n"
        "from worldmodel.models.attention import _flash\n"
        "q = SimpleNamespace(device=SimpleNamespace(type='cuda'), dtype=torch.float16)\n"
        "_flash(q, q, q, None)",
    ),
    "nevergrad": (
        "nevergrad",
        "import torch\nfrom planning.bounds import Bounds\n"
        "from planning.solvers.registry import make_optimiser\n"
        "solver = make_optimiser('nevergrad', samples=8, iterations=2, elites=2)\n"
        "solver.minimise(lambda a: a.square().sum((1, 2)), Bounds(), torch.Generator())",
    ),
    "slurm": (
        "submitit",
        "from planning.cli.app import main\n"
        "raise SystemExit(main(['train', 'mode=post', 'data=x', 'launcher=local', 'out=o']))",
    ),
    "trackio": (
        "trackio",
        "from worldmodel.training.experiment import require_tracker\nrequire_tracker('trackio')",
    ),
    "rerun": (
        "rerun",
        "from planning.cli.app import main\n"
        "raise SystemExit(main(['replay', 'run=x', 'rerun=true', 'out=o']))",
    ),
    "wandb": (
        "wandb",
        "from worldmodel.training.experiment import require_tracker\nrequire_tracker('wandb')",
    ),
    "video": (
        "torchcodec",
        "import os\nos.environ['WORLDMODEL_DECODER'] = 'torchcodec'\n"
        "from worldmodel.data.video import choose_decoder\nchoose_decoder()",
    ),
}


@pytest.mark.parametrize("use", USES)
def test_a_missing_extra_names_the_pip_line(use, tmp_path):
    module, code = USES[use]
    program = f"HIDDEN = {{{module!r}}}\n{HIDE}\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert f"pip install 'worldmodel[{use.split()[0]}]'" in done.stderr, done.stderr[-800:]


def test_every_extra_is_covered_and_documented():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    assert {use.split()[0] for use in USES} == extras - {"docs", "dev"}
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert all(f"| `{extra}` |" in page for extra in extras)
