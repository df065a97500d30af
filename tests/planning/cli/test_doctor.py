"""`worldmodel doctor`: what is there is ok, and what is not has a fix; it needs no torch."""

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

import worldmodel
from planning.apps import doctor, doctor_probes
from planning.cli.app import main
from planning.doctor_options import DoctorOptions
from planning.serve_options import RemoteOptions

ROOT = Path(worldmodel.__file__).parents[1]
SLOW = "probe_s=300"
HIDDEN = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'")
sys.meta_path.insert(0, Hide())
"""


@pytest.fixture(scope="module")
def examined(tmp_path_factory):
    """A machine on which the tests run has everything that is not optional."""
    out = tmp_path_factory.mktemp("doctor")
    picture = out / "a.png"
    Image.new("RGB", (64, 48)).save(picture)
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        words = ["doctor", f"camera={out}", "free_gb=0.001", SLOW, f"out={out}", "json=true"]
        status = main(words)
    found = json.loads((out / "summary.json").read_text())
    assert json.loads(text.getvalue()) == found
    return status, {check["name"]: check for check in found["checks"]}, found


def test_this_machine(examined):
    status, checks, found = examined
    needed = ("python", "torch", "rendering", "codecs", "cache", "folder", "camera")
    assert {checks[name]["status"] for name in needed} == {"ok"}, checks
    assert "48, 64" in checks["camera"]["found"]
    assert status == (1 if found["missing"] else 0)


def test_every_extra_is_examined(examined):
    _, checks, _ = examined
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"]) - {"docs", "dev"}
    for extra in extras:
        fix = "" if checks[f"[{extra}]"]["status"] == "ok" else f"pip install 'worldmodel[{extra}]'"
        assert checks[f"[{extra}]"]["fix"] == fix


def test_without_torch_it_says_what_to_install(tmp_path):
    code = HIDDEN + "from planning.cli.app import main\nraise SystemExit(main(sys.argv[1:]))"
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)  # for the processes that it starts
    paths = os.pathsep.join([str(tmp_path), str(ROOT), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", "free_gb=0.001", SLOW],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    (line,) = [x for x in done.stdout.splitlines() if x.split()[:2] == ["missing", "torch"]]
    assert "pip install torch" in line


def test_a_full_disk_a_robot_that_is_away_and_a_missing_camera(tmp_path, capsys):
    words = ["address=127.0.0.1", "camera=/dev/video-none", "free_gb=1000000", SLOW]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "torch_checks", lambda *_, **__: iter(()))
        patch.setattr(doctor, "FRANKA_PORT", 9)
        assert main(["doctor", *words]) == 1
    said = capsys.readouterr().out
    assert "missing: " in said
    for name, fix in {"cache": "Free 1e+06 GB", "camera": "cable", "franka": "FCI"}.items():
        (line,) = [x for x in said.splitlines() if x.split()[:2] == ["missing", name]]
        assert fix in line


def test_what_a_camera_of_ones_own_raises_is_shown(tmp_path, monkeypatch):
    code = """
class Eye:
    def read(self):
        raise LookupError("no lens")
    close = read
"""
    (tmp_path / "own_eye.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    found = doctor_probes.probe(doctor_probes.CAMERA, 300, "own_eye:Eye")
    assert found == {"error": "LookupError: no lens"}
    missing = doctor_probes.probe(doctor_probes.CAMERA, 300, "own_eye:Other")
    assert "own_eye:Other cannot be loaded" in str(missing["error"])


def test_a_robot_that_answers():
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "FRANKA_PORT", listening.getsockname()[1])
        assert doctor.robot_check("127.0.0.1", 60).status == "ok"


def test_a_plan_server_that_is_away():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        policy = f"ws://127.0.0.1:{free.getsockname()[1]}"
    check = doctor.server_check(DoctorOptions(remote=RemoteOptions(policy=policy)))
    assert check.status == "missing"
    assert "start `worldmodel serve`" in check.found


@pytest.mark.parametrize(
    "code", ["import os; os._exit(3)", "import os; os.kill(os.getpid(), 11)", "print('x')", "1/0"]
)
def test_a_probe_that_crashes_is_an_error_in_words(code):
    assert doctor_probes.probe(code, 300)["error"]


def test_a_probe_that_hangs_ends():
    assert "within 0.2 s" in doctor_probes.probe("import time; time.sleep(600)", 0.2)["error"]
