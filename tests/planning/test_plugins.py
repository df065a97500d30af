"""Extension points: names, references, broken packages, and who may choose code."""

import json
import sys

import pytest

from planning.cli.app import main
from planning.errors import PlanError
from planning.plugins import KINDS, check_name, is_reference, load, problem_of, registered

SOLVER = """
from planning.solvers.mppi import MPPI
class Mine(MPPI):
    pass
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed distribution with a good, a broken and a masquerading robot."""
    info = tmp_path / "site" / "their_robots-2.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-robots\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text(
        "[worldmodel.robots]\nbroken = their_robots:Missing\nfranka = their_robots:Fake\n"
        "gone = no_such_module:Arm\ngood = their_robots:Good\n"
    )
    (tmp_path / "site" / "their_robots.py").write_text("class Good: pass\nclass Fake: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield "their-robots 2.1"
    sys.modules.pop("their_robots", None)


@pytest.mark.parametrize("kind", KINDS)
def test_our_own_implementations_are_registered_and_load(kind):
    extra = ("fetch_push", "fetch_pick_place", "twin")  # loaded only where their extra is
    for name, plugin in registered(kind).items():
        assert plugin.source == "worldmodel"
        assert name in extra or not problem_of(plugin)
        check_name("option", kind, name)


def test_a_package_adds_names_and_cannot_replace_ours(package):
    found = registered("robot")
    assert (found["good"].source, found["franka"].source) == (package, "worldmodel")
    assert load("robot", "good").__name__ == "Good"
    assert load("robot", "franka").__module__ == "planning.apps.franka_workcell"


def test_a_broken_package_is_named_and_stops_no_other_command(package, capsys):
    assert main(["plugins", "kinds=robot"]) == 1
    printed = capsys.readouterr().out
    assert "has no attribute 'Missing'" in printed
    assert "No module named 'no_such_module'" in printed
    assert f"good             ok      their_robots:Good ({package})" in printed
    assert main(["eval", "--help"]) == 0
    assert main(["drive", "--cfg", "job"]) == 0
    assert (
        main(["drive", "robot=gone", "camera=0", "limits=franka", "goals=x", "--cfg", "job"]) == 0
    )
    with pytest.raises(PlanError, match="gone cannot be loaded"):
        load("robot", "gone")


def test_an_unknown_name_lists_what_there_is(capsys):
    assert main(["drive", "robot=frnka"]) == 2
    said = capsys.readouterr().err
    assert "robot='frnka' is not available. Choose one of: franka, twin, mujoco, fake" in said
    assert "module:Class" in said
    assert main(["plugins", "kinds=robots"]) == 2


@pytest.mark.parametrize("text", ["a:B", "a.b.c:D", "_a1:b_2"])
def test_references(text):
    assert is_reference(text)


@pytest.mark.parametrize(
    "text",
    ["a", "a:", ":B", "a:B.c", "a b:C", "http://x", "rtsp://h:8/x", "1a:B", "a:B()", "a;b:C"],
)
def test_what_is_no_reference(text):
    assert not is_reference(text)


def test_a_class_in_the_current_folder_plans(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "my_search.py").write_text(SOLVER)
    (tmp_path / "raises.py").write_text("raise SystemExit('no')\n")
    words = ["drive", "robot=fake", "task=reach", "samples=8", "iterations=1", "device=cpu"]
    assert main([*words, "optimiser=my_search:Mine", "execute=true", "confirm=false"]) == 0
    assert "my_search" in sys.modules
    (log,) = (tmp_path / "runs/drive/logs").glob("*/log.jsonl")
    header = json.loads(log.read_text().splitlines()[0])
    assert header["options"]["planner"]["optimiser"] == "my_search:Mine"
    capsys.readouterr()
    assert main(["replay", "run=runs/drive"]) == 2  # a log chooses no code
    assert "a log never chooses what code runs" in capsys.readouterr().err
    assert main(["replay", "run=runs/drive", "plan=false"]) == 0
    assert main([*words, "optimiser=raises:Mine"]) == 2
    assert "cannot be loaded from raises:Mine (SystemExit: no)" in capsys.readouterr().err
    assert main([*words, "optimiser=json:JSONDecoder"]) == 2
    assert "no subclass of planning.solvers.search.Solver" in capsys.readouterr().err
    sys.modules.pop("my_search", None)
