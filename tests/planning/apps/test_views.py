"""A model of two cameras: evaluated, driven on the fake arm, served and replayed."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from planning.apps import drive as driving
from planning.apps.capture_goals import capture_goals
from planning.apps.plan_sessions import PlanService, PlanSession
from planning.cli.app import compose_options, main
from planning.drive_log import read_log
from planning.errors import PlanError
from planning.goals import GoalPicture, read_goals, write_goal
from planning.pictures import read_image
from robot.cameras.camera import CallableCamera, Frame
from worldmodel import load_world_model
from worldmodel.data.dataset import open_row
from worldmodel.data.index import build_index, open_manifest

SEARCH = ["samples=8", "iterations=1", "elites=4", "device=cpu"]
FAKE = ["drive", "robot=fake", "task=reach", "execute=true", "confirm=false", *SEARCH]


class Nobody:
    """An operator who answers nothing."""

    def tell(self, text):
        pass

    def ask(self, question):
        return ""


@pytest.fixture
def model(make_model):
    return make_model(image_size=32, cameras=("left", "wrist"))


def test_an_evaluation_renders_both_cameras(model, tmp_path):
    words = ["eval", "task=reach", "episodes=1", "workers=1", "baselines=false", "pictures=true"]
    assert main([*words, *SEARCH, f"model={model}", f"out={tmp_path}"]) == 0
    assert json.loads((tmp_path / "summary.json").read_text())["episodes"] == 1


def test_goal_images_of_several_views_are_rendered_captured_driven_and_replayed(
    model, tmp_path, capsys
):
    words = ["eval", "task=reach", "episodes=1", "workers=1", "baselines=false", *SEARCH]
    words += [f"model={model}", f"out={tmp_path}/eval"]
    assert main([*words, "energy_views=left,wrist"]) == 0
    capsys.readouterr()
    assert main([*words, "energy_views=left,right"]) == 2
    assert "energy_views=left,right, and the model sees left, wrist" in capsys.readouterr().err
    folder = tmp_path / "goals"
    options = compose_options(
        "capture-goal", ["robot=fake", f"out={folder}", "energy_views=left,wrist"]
    )
    with capture_goals(options, Nobody()) as capture:
        capture.keep("there", steps=2)
    (goal,) = read_goals(folder, [])
    assert goal.others.keys() == {"wrist"}
    assert goal.others["wrist"].shape == goal.image.shape
    assert not np.array_equal(goal.others["wrist"], goal.image)
    drive = [word for word in FAKE if not word.startswith("task")]
    assert main([*drive, f"goals=[{folder}]", f"model={model}", f"out={tmp_path}/run"]) == 0
    (log,) = tmp_path.glob("run/logs/*")
    (logged,) = read_log(log).goals
    assert np.array_equal(logged.others["wrist"], goal.others["wrist"])
    assert main(["replay", f"run={tmp_path}/run", f"out={tmp_path}/again"]) == 0
    assert json.loads((tmp_path / "again" / "summary.json").read_text())["same"] is True


@pytest.mark.parametrize("name", ["../out", "", "a/b", "x" * 90])
def test_a_goal_names_no_file_outside_its_folder(name, tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    path = write_goal(tmp_path, 0, GoalPicture("goal", image, others={"wrist": image}))
    facts = json.loads(path.with_suffix(".json").read_text()) | {"others": [name]}
    path.with_suffix(".json").write_text(json.dumps(facts))
    with pytest.raises(PlanError, match="allowed: letters, digits"):
        read_goals(tmp_path, [])


def test_a_drive_sees_logs_and_records_both_cameras(model, tmp_path, capsys):
    assert main([*FAKE, f"model={model}", f"out={tmp_path}/run"]) == 0
    (folder,) = tmp_path.glob("run/logs/*")
    logged = read_log(folder)
    row = logged.steps[0]
    reading = logged.reading(row)
    assert reading.keys() == {"image", "image_wrist", "state"}
    assert not np.array_equal(reading["image"], reading["image_wrist"])
    assert np.array_equal(reading["image_wrist"], read_image(folder / "frame-0000-1.png"))
    assert logged.header["specs"]["observation"]["cameras"] == ["left", "wrist"]
    assert row["others"]["wrist"] > 0
    build_index(tmp_path / "run" / "data", tmp_path / "index", workers=1)
    manifest = open_manifest(tmp_path / "index")
    episode = open_row(manifest, manifest.rows[0], views=("left", "wrist"))
    assert set(episode.cameras) == {"left", "wrist"}
    capsys.readouterr()
    assert main(["replay", f"run={tmp_path}/run", f"out={tmp_path}/again"]) == 0
    assert json.loads((tmp_path / "again" / "summary.json").read_text())["same"] is True


def test_a_frozen_second_camera_stops_the_arm(model, tmp_path, monkeypatch, capsys):
    class Stale(CallableCamera):
        def read(self):
            return Frame(self.render(), -1e6)

    opened = driving.open_workcell

    def open_stale(*options):
        workcell = opened(*options)
        monkeypatch.setattr(
            workcell, "open_view", lambda name, _: Stale(lambda: workcell.picture(name))
        )
        return workcell

    monkeypatch.setattr(driving, "open_workcell", open_stale)
    assert main([*FAKE, f"model={model}", f"out={tmp_path}"]) == 2
    assert "s old, at most 3.0 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["other_cameras=[top:0]"], "names top, and the model sees left, wrist"),
        (["other_cameras=[wrist]"], "as VIEW:CAMERA"),
        (["other_cameras=[wrist:0]", "robot=mujoco"], "has an effect only with robot=franka"),
        (["robot=twin"], "robot=twin renders the left one alone"),
    ],
)
def test_cameras_that_do_not_fit_are_refused(model, tmp_path, capsys, more, message):
    assert main([*FAKE, f"model={model}", f"out={tmp_path}", *more]) == 2
    assert message in capsys.readouterr().err


def test_a_server_plans_from_the_images_of_both_cameras(model):
    options = compose_options("serve", [*SEARCH, f"model={model}"]).resolved()
    world = load_world_model(model, "cpu")
    session = PlanSession(PlanService(world, replace(options, batch_window_s=0.0)))
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    state = np.array([0.5, 0.0, 0.3, np.pi, 0.0, 0.0, 0.0], np.float32)
    session.answer({"request": "goal", "name": "goal", "steps": 9, "image": image})
    session.answer({"request": "begin", "seed": 3})
    act = {"request": "act", "image": image, "state": state}
    with pytest.raises(PlanError, match="no image_wrist"):
        session.answer(act)
    first = session.answer({**act, "image_wrist": image})
    assert np.isfinite(first["energy"])
    assert first["energy"] < 1e-5  # the goal is the main camera's image
    session.answer({"request": "goal", "name": "goal", "steps": 9, "image": image})
    session.answer({"request": "begin", "seed": 3})
    one = session.answer({**act, "image_wrist": image[::-1]})["energy"]
    both = {"image": image, "image_wrist": image}
    session.answer({"request": "goal", "name": "goal", "steps": 9, **both})
    session.answer({"request": "begin", "seed": 3})
    assert session.answer({**act, "image_wrist": image[::-1]})["energy"] > one
    droid = {
        "observation/exterior_image_1_left": image,
        "observation/wrist_image_left": image,
        "observation/state": state,
        "goal": image[:, ::-1],
    }
    assert session.answer(droid)["energy"] > 0
    with pytest.raises(PlanError, match="no image_wrist"):
        session.answer({k: v for k, v in droid.items() if "wrist" not in k})


@pytest.mark.parametrize("command", ["plan", "inspect energy", "inspect surprise", "environment"])
def test_commands_of_one_camera_say_so(model, tmp_path, capsys, command):
    from PIL import Image

    picture = tmp_path / "a.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8) + 99).save(picture)
    pair = [f"image={picture}", f"goal={picture}"]
    state = "[0.5,0,0.3,3.1,0,0,0]"
    words = {
        "plan": ["plan", *pair, f"state={state}"],
        "inspect energy": ["inspect", "energy", *pair, f"states={[0.5, 0, 0.3, 3, 0, 0, 0] * 2}"],
        "inspect surprise": ["inspect", "surprise"],
        "environment": ["eval", "environment=fetch_push", "workers=1"],
    }[command]
    assert main([*words, f"model={model}", f"out={tmp_path}/out"]) == 2
    assert "sees the cameras left, wrist" in capsys.readouterr().err


@torch.no_grad()
def test_pictures_of_imagined_ends_take_the_main_view(model):
    from planning.apps.imagined import FrameBank
    from planning.rollout import Episode

    world = load_world_model(model, "cpu")
    frames = list(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8))
    bank = FrameBank([Episode("reach", 0, frames=frames)], world)
    both = np.stack([[frame, frames[0]] for frame in frames])
    z_FND = world.encode(torch.from_numpy(both))
    assert all(np.array_equal(bank.nearest(z), f) for z, f in zip(z_FND, frames, strict=True))
