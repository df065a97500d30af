"""Odd and hostile raw episodes: each is a reject with a reason, and stops no other."""

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from worldmodel.data.episode import EpisodeError
from worldmodel.data.index import build_index
from worldmodel.data.readers import layouts
from worldmodel.data.readers.droid import read_droid
from worldmodel.data.readers.droid_file import EVENTS, GRIPPER, JOINTS, MOVING, SENT, STATE
from worldmodel.data.readers.options import ReadOptions
from worldmodel.data.writers.synthetic import SERIALS, draw_episode, random_states

STEPS = 12
TYPES = "observation/camera_type"
POSES = f"observation/camera_extrinsics/{SERIALS['left']}_left"
STAMPS = f"observation/timestamp/cameras/{SERIALS['left']}_{EVENTS[0]}"


def episode(root: Path, name: str, seed: int = 0, cameras=("left",)) -> Path:
    return draw_episode(root, name, random_states(STEPS, seed), size=(16, 32), cameras=cameras)


def put(folder: Path, key: str, value) -> None:
    with h5py.File(folder / "trajectory.h5", "a") as file:
        if key in file:
            del file[key]
        if isinstance(value, str):
            file.create_group(key)["x"] = 1
        elif callable(value):
            value(file, key)
        else:
            file[key] = value


def describe(folder: Path, **values) -> None:
    path = next(folder.glob("metadata_*.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def large(file, key):
    file.create_dataset(key, (10**12, 6), "f8", chunks=(1024, 6), compression="gzip")


def large_chunk(file, key):
    chunks, most = (2**27, 6), (None, 6)
    file.create_dataset(key, (STEPS, 6), "f8", maxshape=most, chunks=chunks, compression="gzip")


def unwritten(file, key):
    file.create_dataset(key, (STEPS, 6), "f8")


def half_written(file, key):
    made = file.create_dataset(key, (STEPS, 6), "f8", chunks=(1, 6), maxshape=(None, 6))
    made[: STEPS // 2] = 0.5


def loop(file, key):
    file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")
    file[key] = h5py.SoftLink("/a")


def stored_outside(file, key):
    file.create_dataset(key, (STEPS, 7), "u1", external=[("/etc/passwd", 0, STEPS * 7)])


def virtual(file, key):
    layout = h5py.VirtualLayout((STEPS, 7), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "secret", (STEPS, 7))
    file.create_virtual_dataset(key, layout)


def link_through_a_folder(file, key):
    file["away"] = h5py.ExternalLink("other.h5", "/")
    file[key] = h5py.SoftLink("/away/secret")


MISSING = "trajectory_key_missing"
ODD_ARRAYS = {
    "dangling soft link": (STATE, h5py.SoftLink("/gone"), MISSING),
    "soft links in a loop": (STATE, loop, MISSING),
    "null": (STATE, h5py.Empty("f8"), MISSING),
    "group for poses": (STATE, "group", MISSING),
    "group for grippers": (GRIPPER, "group", MISSING),
    "group for stamps": (STAMPS, "group", MISSING),
    "array above the poses": ("observation/robot_state", 1.0, MISSING),
    "text for poses": (STATE, np.array([b"a"] * STEPS), MISSING),
    "complex joints": (JOINTS, np.zeros((STEPS, 7), complex), MISSING),
    "scalar poses": (STATE, 1.0, "lengths_differ"),
    "scalar grippers": (GRIPPER, 0.5, "lengths_differ"),
    "scalar joints": (JOINTS, 0.5, "lengths_differ"),
    "short joints": (JOINTS, np.zeros((STEPS - 1, 7)), "lengths_differ"),
    "null movement": (MOVING, h5py.Empty("f8"), MISSING),
    "scalar camera types": (TYPES, 1, MISSING),
    "camera pose [6]": (POSES, np.ones(6), "lengths_differ"),
    "no camera poses": (POSES, np.ones((0, 6)), "lengths_differ"),
    "camera poses 4x4": (POSES, np.tile(np.eye(4), (STEPS, 1, 1)), "lengths_differ"),
    "camera poses in text": (POSES, np.array([b"a"] * STEPS), MISSING),
    "10^12 steps": (STATE, large, "array_too_large"),
    "chunk of 6 GB": (STATE, large_chunk, "array_too_large"),
    "values never written": (STATE, unwritten, "values_missing"),
    "half of the steps never written": (STATE, half_written, "values_missing"),
    "external link": (STATE, h5py.ExternalLink("other.h5", "/x"), "path_outside"),
    "external link to a device": (STATE, h5py.ExternalLink("/dev/zero", "/x"), "path_outside"),
    "soft link through an external one": (SENT, link_through_a_folder, "path_outside"),
    "external storage": (SENT, stored_outside, "path_outside"),
    "virtual": (SENT, virtual, "path_outside"),
    "link above": ("observation/robot_state", h5py.ExternalLink("o.h5", "/"), "path_outside"),
}


@pytest.mark.parametrize("name", ODD_ARRAYS)
def test_an_odd_array_is_a_reject(tmp_path, name):
    key, value, reason = ODD_ARRAYS[name]
    folder = episode(tmp_path, "odd")
    put(folder, key, value)
    with pytest.raises(EpisodeError) as raised:
        read_droid(folder)
    assert raised.value.reason == reason


UPWARDS = "../../../../elsewhere/secret"
ODD_METADATA = {
    "serial that leads upwards": ({"ext1_cam_serial": UPWARDS}, "path_outside"),
    "absolute serial": ({"ext1_cam_serial": "/etc/passwd"}, "path_outside"),
    "serial of two dots": ({"ext1_cam_serial": "..", "ext1_mp4_path": ""}, "path_outside"),
    "serial with a null": ({"ext1_cam_serial": "a\0b"}, "path_outside"),
    "serial that no file can have": ({"ext1_cam_serial": "\ud800"}, "camera_unknown"),
    "serial of 300 letters": ({"ext1_cam_serial": "9" * 300}, "camera_unknown"),
    "serial that is a list": ({"ext1_cam_serial": [1]}, "path_outside"),
    "path of dots": ({"left_mp4_path": "x/.."}, "path_outside"),
    "success in words": ({"success": "false"}, "metadata_unreadable"),
    "pose in a dictionary": ({"ext1_cam_extrinsics": {"x": 1}}, "metadata_unreadable"),
    "pose in a word": ({"ext1_cam_extrinsics": "none"}, "metadata_unreadable"),
    "pose of five": ({"ext1_cam_extrinsics": [0.1] * 5}, "metadata_unreadable"),
    "pose with a huge number": ({"ext1_cam_extrinsics": [10**400] * 6}, "metadata_unreadable"),
}


@pytest.mark.parametrize("name", ODD_METADATA)
def test_odd_metadata_are_a_reject(tmp_path, name):
    values, reason = ODD_METADATA[name]
    folder = episode(tmp_path, "odd")
    describe(folder, **({"left_mp4_path": None} | values))
    with pytest.raises(EpisodeError) as raised:
        read_droid(folder)
    assert raised.value.reason == reason


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder_in_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


ODD_FILES = {"fifo": fifo, "folder": folder_in_place}


@pytest.mark.parametrize("file", ["trajectory.h5", "metadata_*.json", "recordings/MP4/*.mp4"])
@pytest.mark.parametrize("name", ODD_FILES)
def test_only_regular_files_are_opened(tmp_path, name, file):
    folder = episode(tmp_path, "odd")
    ODD_FILES[name](next(folder.glob(file)))
    with pytest.raises(EpisodeError, match="not_a_file"):
        read_droid(folder)


@pytest.mark.parametrize("file", ["trajectory.h5", "metadata_*.json", "recordings/MP4/*.mp4"])
def test_linked_files_outside_the_data_set_need_an_option(tmp_path, file):
    root = tmp_path / "root"
    folder = episode(root, "odd")
    path = next(folder.glob(file))
    path.rename(tmp_path / path.name)
    path.symlink_to(tmp_path / path.name)
    with pytest.raises(EpisodeError, match="path_outside"):
        read_droid(folder, root=root)
    assert len(read_droid(folder, ReadOptions(links="all"), root)) == STEPS


def test_linked_files_may_stay_inside_the_data_set(tmp_path):
    folder = episode(tmp_path, "one")
    path = next(folder.rglob("*.mp4"))
    (tmp_path / "videos").mkdir()
    path.rename(tmp_path / "videos" / path.name)
    path.symlink_to(tmp_path / "videos" / path.name)
    assert len(read_droid(folder, root=tmp_path)) == STEPS


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_episodes_with_the_frames_of_one_file_are_rejected(tmp_path, link):
    paths = [next(episode(tmp_path, f"e{n}", n).rglob("*.mp4")) for n in range(3)]
    paths[1].unlink()
    link(paths[1], paths[0])
    summary = build_index(tmp_path, tmp_path / "out", workers=1)
    assert (summary["accepted"], summary["reasons"]) == (1, {"video_span": 2})
    assert "frames_at" not in (tmp_path / "out" / "manifest.jsonl").read_text()
    assert build_index(tmp_path, tmp_path / "out", workers=1)["inspected"] == 0


def test_deeply_nested_metadata_are_a_reject(tmp_path):
    folder = episode(tmp_path, "odd")
    next(folder.glob("metadata_*.json")).write_text('{"a":' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(EpisodeError, match="metadata_unreadable"):
        read_droid(folder)


@pytest.mark.parametrize("pose", [np.nan, np.inf, 0.0, 600.0])
def test_an_unknown_camera_pose_decides_no_side(tmp_path, pose):
    folder = episode(tmp_path, "two", cameras=("left", "right"))
    describe(folder, left_mp4_path=None, right_mp4_path=None)
    assert read_droid(folder).notes == ()
    put(folder, POSES, np.full((STEPS, 6), pose))
    assert read_droid(folder).notes == ("left_assumed",)
    with pytest.raises(EpisodeError, match="extrinsics_missing"):
        read_droid(folder).extrinsics("left")


def test_two_cameras_at_one_y_decide_no_side(tmp_path):
    folder = episode(tmp_path, "two", cameras=("left", "right"))
    describe(folder, left_mp4_path=None, right_mp4_path=None)
    right = POSES.replace(SERIALS["left"], SERIALS["right"])
    for key in (POSES, right):
        put(folder, key, np.tile([0.3, 0.2, 0.5, 0.0, 0.0, 1.0], (STEPS, 1)))
    assert read_droid(folder).notes == ("left_assumed",)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_fault_that_no_reader_expects_is_a_reject_with_its_traceback(
    tmp_path, monkeypatch, workers
):
    names = [f"e{i}" for i in range(3)]
    for seed, name in enumerate(names):
        episode(tmp_path / "data", name, seed)
    read = layouts.droid.read_droid

    def odd(folder, options, root):
        return {}["surprise"] if folder.name == "e1" else read(folder, options, root)

    monkeypatch.setattr(layouts.droid, "read_droid", odd)
    out = tmp_path / "out"
    summary = build_index(tmp_path / "data", out, workers=workers)
    assert (summary["accepted"], summary["reasons"]) == (2, {"reader_failed": 1})
    row = json.loads((out / "rejects.jsonl").read_text())
    assert "KeyError: 'surprise'" in row["message"]
    assert "traceback" not in row
    assert "in odd" in (out / "errors.log").read_text()
    monkeypatch.undo()
    (tmp_path / "data").rename(tmp_path / "moved")
    assert build_index(tmp_path / "moved", out, workers=workers)["accepted"] == 3
    assert not (out / "errors.log").exists()


def test_results_are_kept_as_they_come(tmp_path, monkeypatch):
    for seed in range(4):
        episode(tmp_path / "data", f"e{seed}", seed)
    read, seen = layouts.droid.read_droid, []

    def stop_at_the_third(folder, options, root):
        seen.append(folder.name)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return read(folder, options, root)

    monkeypatch.setattr(layouts.droid, "read_droid", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        build_index(tmp_path / "data", tmp_path / "out", workers=1)
    store = tmp_path / "out" / ".seen.jsonl"
    store.write_text(store.read_text() + '{"unit": "torn')
    monkeypatch.undo()
    summary = build_index(tmp_path / "data", tmp_path / "out", workers=1)
    assert (summary["inspected"], summary["accepted"]) == (2, 4)


def test_a_name_that_is_not_utf8_stops_nothing(tmp_path):
    for seed in range(2):
        episode(tmp_path / "data", f"e{seed}", seed)
    folder = next((tmp_path / "data").rglob("e1"))
    folder.rename(folder.with_name(os.fsdecode(b"e\xff1")))
    summary = build_index(tmp_path / "data", tmp_path / "out", workers=1)
    assert summary["accepted"] + summary["rejected"] == 2
    assert summary["accepted"] >= 1


def test_linked_folders_are_followed_once(tmp_path):
    episode(tmp_path / "disk", "far", 1)
    near = episode(tmp_path / "data", "near", 2)
    (tmp_path / "data" / "LAB2").symlink_to(tmp_path / "disk" / "LAB")
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data" / "LAB")
    (near / "loop").symlink_to(tmp_path / "data")
    away = tmp_path / "videos"
    (near / "recordings").rename(away)
    (near / "recordings").symlink_to(away)
    summary = build_index(tmp_path / "data", tmp_path / "out", workers=1)
    assert (summary["accepted"], summary["rejected"]) == (2, 0)
    before = layouts.fingerprint(layouts.find_units(tmp_path / "data")[0])
    os.utime(next(away.rglob("*.mp4")), (1, 1))
    again = build_index(tmp_path / "data", tmp_path / "out", workers=1)
    assert again["inspected"] == 1
    assert before
