"""Extension points: names, references, broken packages, and who may choose code."""

import json
import sys

import h5py
import numpy as np
import pytest
from PIL import Image

from planning.apps.eval_summary import summarise
from planning.apps.own_encoder import split_code
from planning.cli.app import main
from planning.errors import PlanError
from planning.options import EvalOptions, SceneOptions
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
    assert "not a subclass of planning.solvers.search.Solver" in capsys.readouterr().err
    sys.modules.pop("my_search", None)


PARTS = """
import numpy as np, torch
from envs.tasks import Task
from planning.skills.motions import PICK_PLACE, Skill
from worldmodel.data.episode import Camera, Episode
from worldmodel.models.model_config import FrameEncoderConfig

NEAR = Task(name="near", num_moving=1, near_m=0.2, max_steps=20)
OURS = Task(name="reach", reaches=True)
CARRY = Skill(name="carry", own=PICK_PLACE.own, moves=PICK_PLACE.moves)

class Frames:
    def __init__(self, frames):
        self.frames = frames
    def __len__(self):
        return len(self.frames)
    def read(self, steps):
        return self.frames[steps]

def read(root):
    for path in sorted(root.glob("*.npz")):
        found = np.load(path)
        left = Camera(name="left", serial="left", frames=Frames(found["frames"]))
        yield Episode(
            id=path.stem, layout="npz", states_TS=found["states"], times_s=found["times"],
            cameras={"left": left}, moving_T=np.ones(len(found["times"]), dtype=bool),
        )

def encoder():
    from worldmodel import load_world_model
    return load_world_model("default", "cpu").encoder
"""


@pytest.fixture
def parts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "my_parts.py").write_text(PARTS)
    yield tmp_path
    sys.modules.pop("my_parts", None)


def test_a_task_and_a_skill_of_ones_own_are_evaluated(parts, capsys):
    words = ["eval", "task=my_parts:NEAR", "sub_goals=one", "skills=[my_parts:CARRY]"]
    few = ["episodes=1", "workers=1", "skill_samples=8", "skill_elites=2", "skill_iterations=1"]
    model = ["model=one_goal_labelled", "method=skills", "device=cpu", "out=runs/eval"]
    assert main([*words, *few, *model, "baselines=false", "pictures=false"]) == 0
    summary = json.loads((parts / "runs/eval/summary.json").read_text())
    assert (summary["task"], summary["objects"]) == ("my_parts:NEAR", [])
    assert "carry" in " ".join(summary["decisions"])
    capsys.readouterr()
    for name, why in {"OURS": "one of our own tasks", "CARRY": "not an envs.tasks.Task"}.items():
        assert main(["eval", f"task=my_parts:{name}", "episodes=1", "workers=1"]) == 2
        assert why in capsys.readouterr().err
    assert main(["drive", "robot=twin", "task=my_parts:NEAR"]) == 2
    assert "cannot be served by robot=twin" in capsys.readouterr().err


def test_a_reader_of_ones_own_makes_a_lerobot_set(parts, capsys):
    data = parts / "data"
    data.mkdir()
    pose = np.array([0.5, 0.0, 0.3, np.pi, 0.0, 0.0, 0.0])
    states = np.tile(pose, (8, 1)) + 0.01 * np.arange(8)[:, None] * np.eye(7)[0]
    frames = np.full((8, 64, 64, 3), 90, np.uint8)
    for name in ("a", "b"):
        np.savez(data / f"{name}.npz", states=states, times=np.arange(8) / 15, frames=frames)
    words = ["data", "convert", "root=data", "reader=my_parts:read", "out=set"]
    assert main(words) == 0
    assert main(["data", "index", "root=set", "out=index", "workers=1"]) == 0
    summary = json.loads((parts / "index/summary.json").read_text())
    assert (summary["accepted"], summary["rejected"]) == (2, 0)
    np.savez(data / "c.npz", states=1000 * states, times=np.arange(8) / 15, frames=frames)
    capsys.readouterr()
    assert main([*words[:-1], "out=other"]) == 0  # the odd one is left out, and named
    found = json.loads(capsys.readouterr().out)
    assert found["episodes"] == 2
    assert "Episode c cannot be used: angles_not_radians" in found["rejected"]["c"]
    assert main([*words[:-1], "out=strict", "max_reject_fraction=0.3"]) == 2
    assert "1 of 3 episodes cannot be used" in capsys.readouterr().err
    assert not (parts / "strict" / "meta").exists()
    assert main([*words, "camera=wrist"]) == 2
    assert "camera=wrist has no effect with reader=" in capsys.readouterr().err
    assert main(["data", "convert", "root=data", "reader=droid"]) == 2
    assert "our own layouts are detected" in capsys.readouterr().err


def test_an_encoder_of_ones_own_writes_features(parts, capsys):
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(parts / "picture.png")
    words = ["features", "videos=picture.png", "num_frames=1", "device=cpu"]
    assert main([*words, "model=my_parts:encoder", "out=own.h5"]) == 0
    assert main([*words, "model=default", "out=default.h5"]) == 0
    with h5py.File("own.h5") as own, h5py.File("default.h5") as usual:
        found, known = [], []
        own.visititems(lambda _, x: found.append(x[()]) if hasattr(x, "shape") else None)
        usual.visititems(lambda _, x: known.append(x[()]) if hasattr(x, "shape") else None)
    assert any(np.shape(a) and np.array_equal(a, b) for a, b in zip(found, known, strict=True))
    capsys.readouterr()
    assert main([*words, "model=my_parts:NEAR", "out=none.h5"]) == 2
    assert "no worldmodel.models.frame_encoder.FrameEncoder" in capsys.readouterr().err


def test_a_merge_loads_no_task_and_no_environment_that_a_file_names():
    for words in ({"scene": SceneOptions(task="evil:TASK")}, {"environment": "evil:ENV"}):
        options = EvalOptions(**words)
        summary = summarise([], {}, options, options.scene)
        assert (summary["task"], summary["objects"]) == (options.task_name, [])
    assert "evil" not in sys.modules


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("default", ("default", "")),
        ("m:C", ("", "m:C")),
        ("runs/a+m.n:C", ("runs/a", "m.n:C")),
        ("a+b/model.safetensors+m:C", ("a+b/model.safetensors", "m:C")),
        ("USER/NAME@main+m:C", ("USER/NAME@main", "m:C")),
        ("runs/a+b", ("runs/a+b", "")),
        ("+m:C", ("+m:C", "")),
        ("runs/a+video", ("runs/a+video", "")),
        ("hf:facebook/dinov2-small", ("hf:facebook/dinov2-small", "")),
        ("hf:dinov2", ("hf:dinov2", "")),
        ("random:vit_tiny", ("random:vit_tiny", "")),
    ],
)
def test_a_model_and_the_code_of_its_encoder(model, parts):
    assert split_code(model) == parts
