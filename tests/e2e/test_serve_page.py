"""docs/serve.md: its commands run, with the addresses of this machine in place of two."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from planning.cli.app import main
from planning.goals import GoalPicture, write_goal
from tests.planning.remote.serving import QUICK, TIMEOUT_S, serving

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
LINES = [
    line
    for language, block in BLOCKS
    if not language
    for line in block.replace("\\\n", " ").splitlines()
]
SERVE = [shlex.split(line) for line in LINES if line.startswith("worldmodel serve")]
ROBOT = [shlex.split(line) for line in LINES if line.startswith("worldmodel d")]
FAKE = {"robot=franka": "robot=fake", "camera=0": "task=reach", "goals=runs/goals": "confirm=false"}
"""The fake arm in place of a real one, with its scene and without a person."""


def here(words, url):
    """Return the words for this machine: the server's address, and the fake arm."""
    found = [FAKE.get(word, word) for word in words]
    return [re.sub(r"wss?://planner:8000", url, word) for word in found]


def own(words):
    """Return the server's words with loopback in place of the network, and a quick planner."""
    kept = [word for word in words if word != "host=0.0.0.0"]
    return [*kept[2:], "host=127.0.0.1"]


@pytest.mark.parametrize("encrypted", [False, True])
def test_the_commands_of_two_machines(encrypted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_goal(Path("runs/goals"), 0, GoalPicture("a", np.zeros((8, 8, 3), np.uint8)))
    plain, secure = SERVE
    if encrypted:
        (openssl,) = [line for line in LINES if line.startswith("openssl")]
        openssl = openssl.replace("DNS:planner", "IP:127.0.0.1")
        subprocess.run(shlex.split(openssl), check=True, capture_output=True)
    with serving(tmp_path, *own(secure if encrypted else plain), quick=QUICK) as served:
        assert served.url.startswith("wss://" if encrypted else "ws://")
        wanted = "wss://" if encrypted else " policy=ws://"
        chosen = [words for words in ROBOT if wanted in " " + " ".join(words)]
        assert len(chosen) == (1 if encrypted else 2)
        for words in chosen:
            more = [f"heartbeat_s={TIMEOUT_S}", f"out={tmp_path}/{words[1]}"]
            status = main([*here(words[1:], served.url), *more])
            said = capsys.readouterr()
            assert status == (0 if words[1] == "drive" else status), said.err
            if words[1] == "doctor":
                found = json.loads((tmp_path / "doctor" / "summary.json").read_text())
                (server,) = [c for c in found["checks"] if c["name"] == "policy"]
                assert server["status"] == "ok"


def test_openpis_observation(tmp_path, monkeypatch):
    """The page's program, with a client written from openpi's published source."""
    import types

    from tests.planning.remote.serving import OpenpiClient

    ((_, code),) = [block for block in BLOCKS if block[0] == "py"]
    with serving(tmp_path) as served:
        module = types.ModuleType("openpi_client.websocket_client_policy")
        module.WebsocketClientPolicy = lambda host, port: OpenpiClient(f"ws://{host}:{served.port}")
        monkeypatch.setitem(sys.modules, "openpi_client", types.ModuleType("openpi_client"))
        monkeypatch.setitem(sys.modules, "openpi_client.websocket_client_policy", module)
        shown = []
        exec(compile(code, "serve.md", "exec"), {"print": shown.append})
    assert shown[0].shape[1] == 7


def test_the_list_without_pytorch_is_complete():
    """All of the base's libraries but PyTorch's, and those of `serve` and `robot`."""
    (line,) = [x for x in LINES if x.startswith("pip install av")]
    listed = set(shlex.split(line)[2:])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]

    def names(requirements):
        return {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}

    base, extras = names(project["dependencies"]), names(optional["serve"] + optional["robot"])
    unused = {"torch", "tensorboard", "safetensors"}
    assert listed >= base - unused
    assert listed - base == extras
