"""Sets with column names of their own give the states and actions that were written."""

import json

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.worldmodel.data.other_layouts import SIZE
from tests.worldmodel.data.own_names import (
    CAMERA,
    FRONT,
    SECOND,
    write_own_lerobot,
    write_own_rlds,
    written,
)
from worldmodel.actions import apply_action, convert_state, pose_diff
from worldmodel.data.column_map import ROTATION_WIDTH, ColumnMap, parse_columns, read_map
from worldmodel.data.dataset import RawClips, open_row
from worldmodel.data.episode import EpisodeError
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.inspection import IndexOptions
from worldmodel.data.mapped_states import read_states
from worldmodel.data.memory import open_clips
from worldmodel.data.readers import lerobot_list
from worldmodel.data.readers.options import ReadOptions
from worldmodel.data.sampling import ClipOptions, state_actions
from worldmodel.data.transforms import Preprocess
from worldmodel.data.writers.synthetic import random_states
from worldmodel.errors import ConfigError

STATES = random_states(12, 0)
VIEWS = {"left": "observation.images.front"}


@pytest.fixture(autouse=True)
def forget():
    for cached in (lerobot_list.read_info, lerobot_list.list_episodes):
        cached.cache_clear()


def read(columns, **arrays):
    return read_states(lambda name: np.asarray(arrays[name], np.float64), columns)


def same_pose(found, states, atol=1e-9):
    np.testing.assert_allclose(found[:, [0, 1, 2, 6]], states[:, [0, 1, 2, 6]], atol=atol)
    turns = [Rotation.from_euler("xyz", x[:, 3:6]) for x in (found, states)]
    assert (turns[0].inv() * turns[1]).magnitude().max() < max(atol, 1e-7)


@pytest.mark.parametrize("frame", ["base", "camera"])
@pytest.mark.parametrize("rotation", [k for k in ROTATION_WIDTH if k != "none"])
def test_every_rotation_unit_and_frame_gives_the_same_states(rotation, frame):
    angles = rotation.startswith(("euler", "rotvec"))
    camera = CAMERA if frame == "camera" else None
    poses = written(
        STATES,
        rotation=rotation,
        unit_m=0.001,
        unit_rad=np.pi / 180 if angles else 1.0,
        camera=camera,
    )
    columns = ColumnMap(
        state="s",
        rotation=rotation,
        position_unit="mm",
        angle_unit="deg" if angles else "rad",
        frame=frame,
        camera_pose=tuple(camera or ()),
        gripper="g",
        gripper_open=0.08,
        gripper_closed=0.0,
        **VIEWS,
    )
    found = read(columns, s=poses, g=0.08 * (1 - STATES[:, 6:]))
    same_pose(found.states_TS, STATES)
    assert found.targets_TS is None


def test_fingertip_states_become_flange_states():
    tips = convert_state(torch.from_numpy(STATES), "flange", "tcp").numpy()
    columns = ColumnMap(state="s[:6]", gripper="s[-1]", point="tcp", **VIEWS)
    same_pose(read(columns, s=tips).states_TS, STATES)


def test_a_set_without_rotations_and_gripper_has_a_hand_that_points_down():
    columns = ColumnMap(state="s[0:3]", rotation="none", gripper="none", **VIEWS)
    found = read(columns, s=STATES).states_TS
    np.testing.assert_array_equal(found[:, :3], STATES[:, :3])
    assert (np.abs(found[:, 3]) == np.pi).all()
    assert not found[:, 4:].any()


def test_columns_may_be_joined():
    columns = ColumnMap(state="place + turn[0:3]", gripper="g", **VIEWS)
    found = read(columns, place=STATES[:, :3], turn=STATES[:, 3:], g=STATES[:, 6:]).states_TS
    same_pose(found, STATES)


TARGETS = random_states(12, 1)


def test_targets_are_commanded_states():
    columns = ColumnMap(
        state="s[0:6]",
        gripper="s[6]",
        actions="target",
        action="a[0:6]",
        action_gripper="a[6]",
        **VIEWS,
    )
    found = read(columns, s=STATES, a=TARGETS)
    same_pose(found.targets_TS, TARGETS)


@pytest.mark.parametrize("frame", ["base", "camera", "tool"])
def test_deltas_lead_to_the_commanded_states_in_every_frame(frame):
    turns = [Rotation.from_euler("xyz", x[:, 3:6]) for x in (STATES, TARGETS)]
    moves, change = TARGETS[:, :3] - STATES[:, :3], turns[1] * turns[0].inv()
    if frame == "camera":
        base = Rotation.from_euler("xyz", CAMERA[3:])
        moves, change = base.inv().apply(moves), base.inv() * change * base
    if frame == "tool":
        moves, change = turns[0].inv().apply(moves), turns[0].inv() * turns[1]
    columns = ColumnMap(
        state="s[0:6]",
        gripper="s[6]",
        actions="delta",
        action="a",
        action_gripper="t[6]",
        action_frame=frame,
        action_scale=(0.05, 0.5),
        camera_pose=tuple(CAMERA) if frame == "camera" else (),
        **VIEWS,
    )
    deltas = np.concatenate([moves / 0.05, change.as_euler("xyz") / 0.5], axis=1)
    found = read(columns, s=STATES, a=deltas, t=TARGETS)
    same_pose(found.targets_TS, TARGETS)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize("image_views", [False, True])
def test_clips_of_a_lerobot_set_hold_the_commanded_actions(tmp_path, version, image_views):
    episodes = [random_states(40, seed) for seed in (2, 3)]
    root = write_own_lerobot(
        tmp_path / "set",
        episodes,
        version,
        column=lambda s: (s, s[:, ::-1] * 0 + s + 0.001),
        image_views=image_views,
    )
    columns = ColumnMap(
        state="observation.state[0:6]",
        gripper="observation.state[6]",
        actions="target",
        action="action[0:6]",
        left=SECOND,
    )
    options = IndexOptions(read=ReadOptions(columns=columns))
    summary = build_index(root, tmp_path / "out", options, workers=1)
    assert (summary["accepted"], summary["map_from"]) == (2, "given")
    manifest = open_manifest(tmp_path / "out")
    assert read_map(manifest.summary["map"]) == columns
    clips = RawClips(manifest, ClipOptions(num_frames=4, fps=5.0), Preprocess("droid", (32, 32)))
    clip = clips.clip(0)
    steps = np.array([0, 3, 6, 9])
    states = torch.from_numpy(episodes[0])
    reached = states[steps[1:] - 1] + 0.001
    reached[:, 6] = states[steps[1:], 6]
    wanted = pose_diff(states[steps[:-1]], reached)
    np.testing.assert_allclose(clip["actions"], wanted.numpy(), atol=1e-6)
    frame = open_row(manifest, manifest.rows[0]).camera("left").frames.read(np.array([0]))
    assert frame.shape == (1, *SIZE, 3)


def test_actions_of_single_steps_lead_to_the_targets():
    from worldmodel.data.episode import Episode

    episode = Episode(
        id="e",
        layout="lerobot",
        states_TS=STATES,
        times_s=np.arange(12) / 4,
        cameras={},
        moving_T=np.ones(12, bool),
        targets_TS=TARGETS,
    )
    states, actions = state_actions(episode, np.arange(12), "flange")
    reached = apply_action(torch.from_numpy(states[:-1]), torch.from_numpy(actions)).numpy()
    np.testing.assert_allclose(reached, TARGETS[:-1], atol=1e-9)


def test_an_rlds_set_with_names_of_its_own(tmp_path):
    episodes = [random_states(16, seed) for seed in (4, 5)]

    def values(states):
        return {"eef": written(states, rotation="quat_xyzw"), "opening": 1 - states[:, 6:]}

    root = write_own_rlds(tmp_path / "set", episodes, values=values)
    columns = ColumnMap(
        state="observation/eef",
        rotation="quat_xyzw",
        gripper="steps/observation/opening",
        gripper_open=1.0,
        gripper_closed=0.0,
        left="observation/image",
    )
    options = IndexOptions(read=ReadOptions(columns=columns, rlds_fps=4))
    assert build_index(root, tmp_path / "out", options, workers=1)["accepted"] == 2
    manifest = open_manifest(tmp_path / "out")
    episode = open_row(manifest, manifest.rows[1])
    same_pose(episode.states_TS, episodes[1], atol=1e-6)
    assert episode.seconds == pytest.approx(15 / 4)


def test_the_map_is_part_of_the_index(tmp_path):
    root = write_own_lerobot(tmp_path / "set", [STATES], column=lambda s: (s, s))
    given = {"state": "observation.state[0:6]", "gripper": "observation.state[6]", "left": FRONT}

    def index(**changes):
        read = ReadOptions(columns=ColumnMap(**{**given, **changes}))
        return build_index(root, tmp_path / "out", IndexOptions(read=read), workers=1)

    first = index()
    assert index()["inspected"] == 0
    other = index(gripper_open=1.0, gripper_closed=0.0)
    assert other["inspected"] == 1
    assert other["fingerprint"] != first["fingerprint"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["map"]["gripper_open"] == 1.0


ODD = {
    "slice beyond the column": ({"state": "s[9:15]"}, "column_width"),
    "too few values": ({"state": "s[0:5]"}, "column_width"),
    "no quaternion": ({"state": "s[0:7]", "rotation": "quat_xyzw"}, "rotation_invalid"),
    "no matrix": ({"state": "s[0:3]+nine", "rotation": "matrix"}, "rotation_invalid"),
    "degrees": ({"state": "s[0:3]+deg"}, "angles_not_radians"),
    "millimetres": ({"state": "mm+s[3:6]"}, "position_not_metres"),
    "NaN": ({"state": "nan"}, "pose_not_finite"),
    "gripper in percent": ({"gripper_closed": 0.01}, "gripper_out_of_range"),
    "empty": ({"state": "none"}, "zero_length"),
    "another length": ({"gripper": "short"}, "lengths_differ"),
    "targets in millimetres": ({"actions": "target", "action": "mm+s[3:6]"}, "position_not_metres"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_values_are_rejects_with_a_reason(name):
    changes, reason = ODD[name]
    columns = ColumnMap(**{"state": "s[0:6]", "gripper": "s[6]", **VIEWS, **changes})
    arrays = {
        "s": STATES,
        "mm": STATES[:, :3] * 1000,
        "deg": np.rad2deg(STATES[:, 3:6]),
        "nan": STATES[:, :6] * np.nan,
        "nine": np.ones((12, 9)),
        "short": STATES[:5, 6:],
        "none": STATES[:0, :6],
    }
    with pytest.raises(EpisodeError) as error:
        read(columns, **arrays)
    assert error.value.reason == reason


WRONG = [
    ({"state": "s"}, "gripper="),
    ({"state": "s", "gripper": "g"}, "left="),
    ({"gripper": "g", "left": "c"}, "state="),
    ({"state": "s", "gripper": "g", "left": "c", "state_kind": "joints"}, "robot_file="),
    ({"state": "s", "gripper": "g", "left": "c", "frame": "camera"}, "camera_pose="),
    ({"state": "s", "gripper": "g", "left": "c", "actions": "delta"}, "action="),
    ({"state": "s", "gripper": "g", "left": "c", "gripper_open": 1.0}, "gripper_open"),
    ({"state": "s[", "gripper": "g", "left": "c"}, "is not a column"),
    ({"state": "s[0:6", "gripper": "g", "left": "c"}, "is not a column"),
    ({"state": "s", "gripper": "g", "left": "c", "action": "a"}, "no effect"),
    ({"state": "s", "gripper": "g", "left": "c", "robot_body": "b"}, "no effect"),
    ({"state": "s", "gripper": "g", "left": "c", "camera_pose": (0.0,) * 6}, "no effect"),
    ({"state": "s", "gripper": "none", "left": "c", "gripper_open": 0.5}, "no effect"),
]


@pytest.mark.parametrize(("values", "text"), WRONG)
def test_incomplete_and_ignored_options_are_refused(values, text):
    with pytest.raises(ConfigError, match=text):
        ColumnMap(**values)


@pytest.mark.parametrize("values", [3, {"state": 3}, {"other": "x"}, {"camera_pose": ["x"] * 6}])
def test_a_map_that_is_none_is_one_error(values):
    with pytest.raises(ConfigError):
        read_map(values)


def test_columns_are_parsed():
    parts = parse_columns("state", "a.b[0:6] + c/d[-1]+e[:3]+f")
    values = np.arange(8)
    picked = [values[p.first : p.last].tolist() for p in parts]
    assert [p.name for p in parts] == ["a.b", "c/d", "e", "f"]
    assert picked == [[0, 1, 2, 3, 4, 5], [7], [0, 1, 2], list(range(8))]


def test_small_models_train_on_an_index_and_its_map(tmp_path):
    root = write_own_lerobot(tmp_path / "set", [random_states(40, 2)], column=lambda s: (s, s))
    columns = ColumnMap(state="observation.state[0:6]", gripper="observation.state[6]", left=SECOND)
    options = IndexOptions(read=ReadOptions(columns=columns))
    build_index(root, tmp_path / "index", options, workers=1)
    cache = tmp_path / "cache"
    clips = open_clips(tmp_path / "index", 3, 32, fps=5.0, cache=cache, workers=1)
    states = clips.arrays["states"]
    np.testing.assert_allclose(states[:, :3], random_states(40, 2)[::3, :3], atol=1e-6)
    assert not clips.sent
    with pytest.raises(ConfigError, match="camera=wrist has no effect"):
        open_clips(tmp_path / "index", 3, 32, fps=5.0, cache=cache, camera="wrist")
