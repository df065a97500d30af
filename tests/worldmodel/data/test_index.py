"""12 good and 12 defective episodes of raw DROID; the traps among the good must be accepted."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from planning.cli.app import main
from worldmodel.data.episode import EpisodeError
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.readers.droid import read_droid
from worldmodel.data.readers.options import ReadOptions
from worldmodel.data.video import VideoFrames
from worldmodel.data.writers.synthetic import SERIALS, draw_episode, draw_frames, random_states
from worldmodel.data.writers.video import write_video
from worldmodel.errors import DataError

STATE = "observation/robot_state/cartesian_position"
STEPS = 24


def video(folder: Path, name="left") -> Path:
    return folder / "recordings" / "MP4" / f"{SERIALS[name]}.mp4"


def edit(folder: Path, key: str, change) -> None:
    with h5py.File(folder / "trajectory.h5", "r+") as file:
        value = change(file[key][()])
        del file[key]
        file[key] = value


def metadata(folder: Path, **values) -> None:
    path = next(folder.glob("metadata_*.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def nan_pose(folder):
    edit(folder, STATE, lambda x: np.where(np.arange(len(x))[:, None] == 5, np.nan, x))


def degrees(folder):
    edit(folder, STATE, lambda x: np.concatenate([x[:, :3], np.degrees(x[:, 3:])], 1))


def zero_length(folder):
    edit(folder, STATE, lambda x: x[:0])
    edit(folder, "observation/robot_state/gripper_position", lambda x: x[:0])


def missing_stamps(folder):
    with h5py.File(folder / "trajectory.h5", "r+") as file:
        del file["observation/timestamp/cameras"]


def one_stamp_zero(folder):
    for event in ("read_start", "read_end", "frame_received", "estimated_capture"):
        key = f"observation/timestamp/cameras/{SERIALS['left']}_{event}"
        edit(folder, key, lambda x: np.where(np.arange(len(x)) == 7, 0, x))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


DEFECTS = {
    "metadata_missing": lambda f: next(f.glob("metadata_*.json")).unlink(),
    "metadata_unreadable": lambda f: next(f.glob("metadata_*.json")).write_text('{"uuid": '),
    "trajectory_missing": lambda f: (f / "trajectory.h5").unlink(),
    "trajectory_unreadable": lambda f: truncate(f / "trajectory.h5"),
    "video_truncated": lambda f: truncate(video(f)),
    "video_missing": lambda f: shutil.rmtree(f / "recordings"),
    "pose_not_finite": nan_pose,
    "angles_not_radians": degrees,
    "camera_unknown": lambda f: metadata(f, ext1_cam_serial="99", left_mp4_path="x/99.mp4"),
    "zero_length": zero_length,
    "idle": lambda f: edit(f, "observation/controller_info/movement_enabled", np.zeros_like),
    "timestamps_missing": missing_stamps,
}
MORE = {
    "timestamps_missing": one_stamp_zero,
    "camera_unknown": lambda f: video(f).rename(video(f).with_name("other.mp4")),
    "video_too_short": lambda f: write_video(
        video(f), draw_frames(random_states(STEPS - 5, 0), (48, 64))
    ),
    "frame_size": lambda f: write_video(video(f), draw_frames(random_states(STEPS, 0), (24, 32))),
    "timestamps_wrong_unit": lambda f: [
        edit(f, f"observation/timestamp/cameras/{SERIALS['left']}_{e}", lambda x: x / 1000)
        for e in ("read_start", "read_end", "frame_received", "estimated_capture")
    ],
    "gripper_out_of_range": lambda f: edit(
        f, "observation/robot_state/gripper_position", lambda x: 80 * x
    ),
}


def one_short(folder):
    frames = draw_frames(random_states(STEPS, 0), (48, 64))
    write_video(video(folder), frames[:-1])


def some_idle(folder):
    key = "observation/controller_info/movement_enabled"
    edit(folder, key, lambda x: np.arange(len(x)) > 5)


def no_stereo_paths(folder):
    metadata(folder, left_mp4_path=None, right_mp4_path=None)


def no_other_views(folder):
    for path in (folder / "recordings" / "MP4").glob("*.mp4"):
        if path != video(folder):
            path.unlink()


TRAPS = [
    no_other_views,
    one_short,
    some_idle,
    no_stereo_paths,
    lambda f: metadata(f, success=False),
]


def episode(root: Path, name: str, seed: int) -> Path:
    cameras = ("left", "right", "wrist") if seed == 0 else ("left",)
    return draw_episode(root, name, random_states(STEPS, seed), size=(48, 64), cameras=cameras)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("droid")
    for i in range(12):
        folder = episode(root, f"good-{i:02d}", i)
        if i < len(TRAPS):
            TRAPS[i](folder)
    for i, (reason, spoil) in enumerate(DEFECTS.items()):
        spoil(episode(root, f"bad-{reason}", 100 + i))
    return root


def test_twelve_accepted_twelve_rejected_each_with_its_reason(root, tmp_path, capsys):
    assert main(["data", "index", f"root={root}", f"out={tmp_path}", "workers=2"]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["accepted"], summary["rejected"]) == (12, 12)
    assert summary["reasons"] == dict.fromkeys(DEFECTS, 1)
    rejects = [json.loads(x) for x in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert {Path(r["path"]).name: r["reason"] for r in rejects} == {f"bad-{d}": d for d in DEFECTS}
    notes = {"video_short_by_1": 1, "no_recording_right": 1, "no_recording_wrist": 1}
    assert summary["notes"] == notes
    assert summary["inspected"] == 24


@pytest.mark.parametrize(
    "change",
    [
        {"ext1_cam_serial": "99"},
        {"ext1_cam_serial": "99", "ext1_mp4_path": None},
        {"left_mp4_path": "x/99.mp4"},
    ],
)
def test_metadata_that_contradict_themselves_about_a_camera(tmp_path, change):
    folder = episode(tmp_path, "one", 1)
    metadata(folder, **change)
    with pytest.raises(EpisodeError, match="camera_unknown"):
        read_droid(folder)


def test_damage_in_any_recorded_view_is_found(tmp_path):
    folder = episode(tmp_path, "three", 0)
    truncate(video(folder, "wrist"))
    with pytest.raises(EpisodeError, match="video_truncated"):
        read_droid(folder)
    read_droid(folder, ReadOptions(check_all_cameras=False))


def test_second_run_looks_only_at_what_changed(root, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(root, copy)
    build_index(copy, tmp_path / "out", workers=1)
    again = build_index(copy, tmp_path / "out", workers=1)
    assert again["inspected"] == 0
    assert again["accepted"] == 12
    nan_pose(next(copy.rglob("good-05")))
    changed = build_index(copy, tmp_path / "out", workers=1)
    assert (changed["inspected"], changed["accepted"]) == (1, 11)
    manifest = open_manifest(tmp_path / "out")
    with pytest.raises(DataError, match=r"max_reject_fraction=0\.1"):
        manifest.check(0.1)
    manifest.check(0.6)


def test_more_defects(root, tmp_path):
    for i in range(8):
        episode(tmp_path / "data", f"good-{i}", i + 1)
    for i, (reason, spoil) in enumerate(MORE.items()):
        spoil(episode(tmp_path / "data", f"bad-{reason}", 50 + i))
    summary = build_index(tmp_path / "data", tmp_path / "out", workers=1)
    assert summary["reasons"] == dict.fromkeys(MORE, 1)


def test_only_bad_ones_is_an_error(root, tmp_path, capsys):
    for name in ("a", "b"):
        nan_pose(episode(tmp_path / "data", name, 3))
    assert main(["data", "index", f"root={tmp_path / 'data'}", f"out={tmp_path / 'o'}"]) == 2
    assert "None of the 2 episodes" in capsys.readouterr().err
    assert json.loads((tmp_path / "o" / "summary.json").read_text())["accepted"] == 0
    assert main(["data", "index", f"root={tmp_path / 'none'}", f"out={tmp_path / 'o'}"]) == 2


def test_left_is_the_camera_with_the_larger_y(tmp_path):
    folder = episode(tmp_path, "three", 0)
    metadata(folder, left_mp4_path=None, right_mp4_path=None)
    assert read_droid(folder).camera("left").serial == SERIALS["left"]
    for name, y in (("left", -0.5), ("right", 0.5)):
        key = f"observation/camera_extrinsics/{SERIALS[name]}_left"
        edit(folder, key, lambda x, y=y: x * [1, 0, 1, 1, 1, 1] + [0, y, 0, 0, 0, 0])
    read = read_droid(folder, ReadOptions(camera="wrist"))
    assert read.camera("left").serial == SERIALS["right"]
    assert read.camera("right").serial == SERIALS["left"]


def test_frames_are_counted_by_step_whatever_the_header_says(tmp_path):
    truth = np.zeros((STEPS, 48, 64, 3), np.uint8)
    for step in range(STEPS):
        truth[step, :, 2 * step : 2 * step + 16] = 255
    path = tmp_path / "bar.mp4"
    options = {"g": "6", "bf": "2", "threads": "1"}
    write_video(path, truth, header_fps=60, options=options)
    frames = VideoFrames(path, STEPS)
    for steps in ([0, 1], [3, 9, 23], [7], [17, 18], [23]):
        found = frames.read(np.array(steps)).astype(int)
        error = np.abs(found[:, None] - truth[None].astype(int)).mean((2, 3, 4))
        assert error.argmin(1).tolist() == steps
    folder = episode(tmp_path / "root", "steps", 7)
    assert read_droid(folder).seconds == pytest.approx((STEPS - 1) / 15, abs=1e-3)
