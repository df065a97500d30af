"""Odd and hostile LeRobot sets: wrong rows, wrong lists, wrong places, images in the rows."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.worldmodel.data.other_layouts import SIZE, write_lerobot
from worldmodel.data.dataset import open_row
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.readers import lerobot, lerobot_list, lerobot_rows
from worldmodel.data.readers.lerobot_spans import Span, video_spans
from worldmodel.data.writers.synthetic import draw_frames, random_states
from worldmodel.errors import DataError

STEPS = 12
LEFT = "observation.images.exterior_1_left"
VIDEO = f"videos/{LEFT}/"
POSE = "observation.state.cartesian_position"


def some_episodes(count=2):
    return [random_states(STEPS, seed) for seed in range(count)]


@pytest.fixture(autouse=True)
def forget():
    """Each test writes another data set."""
    for cached in (lerobot_list.read_info, lerobot_list.list_episodes):
        cached.cache_clear()


def outcome(root: Path, out: Path) -> tuple[int, dict[str, int]]:
    try:
        summary = build_index(root, out, workers=1)
    except DataError:
        if not (out / "summary.json").exists():
            raise
        summary = json.loads((out / "summary.json").read_text())
    return summary["accepted"], summary["reasons"]


def in_row(key, value, step=3):
    def change(number, columns):
        if number == 1:
            rows = list(columns[key])
            rows[step] = value
            columns[key] = rows

    return change


def in_all_rows(key, value):
    def change(number, columns):
        if number == 1:
            columns[key] = [value] * STEPS

    return change


ODD_ROWS = {
    "null pose": (in_row(POSE, None), "row_malformed"),
    "null number in a pose": (in_row(POSE, [0.1, None, 0, 0, 0, 0]), "row_malformed"),
    "pose of five": (in_row(POSE, [0.0] * 5), "row_malformed"),
    "empty pose": (in_row(POSE, []), "row_malformed"),
    "poses of five": (in_all_rows(POSE, [0.0] * 5), "lengths_differ"),
    "null joints": (in_row("observation.state.joint_position", None), "row_malformed"),
    "null camera pose": (in_row("camera_extrinsics.exterior_1_left", None), "row_malformed"),
    "null camera poses": (in_all_rows("camera_extrinsics.exterior_1_left", None), "row_malformed"),
    "null time": (in_row("timestamp", None), "row_malformed"),
    "NaN time": (in_row("timestamp", float("nan")), "timestamps_missing"),
    "wrong number": (in_row("episode_index", 7), "lengths_differ"),
    "NaN pose": (in_row(POSE, [float("nan")] * 6), "pose_not_finite"),
}


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize("name", ODD_ROWS)
def test_an_odd_row_is_the_reject_of_its_episode(tmp_path, name, version):
    change, reason = ODD_ROWS[name]
    root = write_lerobot(tmp_path / "set", some_episodes(), version, columns=change)
    assert outcome(root, tmp_path / "out") == (1, {reason: 1})


@pytest.mark.parametrize("drop", [POSE, "timestamp", "episode_index"])
def test_missing_columns_are_rejects(tmp_path, drop):
    root = write_lerobot(
        tmp_path / "set", some_episodes(), "v2.1", columns=lambda n, c: c.pop(drop)
    )
    assert outcome(root, tmp_path / "out") == (0, {"trajectory_key_missing": 2})


TEXTS = {"a word": "yes", "numbers in words": "0.5"}


@pytest.mark.parametrize("text", TEXTS)
def test_text_for_numbers_is_a_reject(tmp_path, text):
    change = in_all_rows("timestamp", TEXTS[text])
    root = write_lerobot(tmp_path / "set", some_episodes(), "v2.1", columns=change)
    assert outcome(root, tmp_path / "out") == (1, {"row_malformed": 1})


def test_unknown_success_stays_unknown(tmp_path):
    change = in_all_rows("is_episode_successful", None)
    root = write_lerobot(tmp_path / "set", some_episodes(), "v2.1", columns=change)
    assert outcome(root, tmp_path / "out")[0] == 2
    assert [r["success"] for r in open_manifest(tmp_path / "out").rows] == [True, None]


WRONG_INFO = {
    "chunks_size": [0, -1, None, "1000", 1.5, True],
    "video_path": [None, 3, "{video_key.__class__}", "{episode_index:9999999999}", "{other}", "{"],
    "data_path": [None, ["x"], "{0}", "{episode_index!r}"],
    "fps": [0, -15, float("nan"), "15"],
    "features": [None, [], "x"],
    "codebase_version": [None, "v1.6", 3],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, vs in WRONG_INFO.items() for v in vs])
def test_a_wrong_entry_of_info_is_one_error_that_names_file_and_key(tmp_path, key, value):
    (tmp_path / "meta").mkdir()
    right = {
        "codebase_version": "v2.1",
        "chunks_size": 1000,
        "fps": 15,
        "features": {LEFT: {"dtype": "video"}},
        "data_path": "data/{episode_index:06d}.parquet",
        "video_path": "videos/{video_key}/{episode_index:06d}.mp4",
    }
    (tmp_path / "meta" / "info.json").write_text(json.dumps({**right, key: value}))
    (tmp_path / "meta" / "episodes.jsonl").write_text('{"episode_index": 0, "length": 5}\n')
    with pytest.raises(DataError, match=rf"info\.json.*{key}"):
        build_index(tmp_path, tmp_path / "out", workers=1)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize("key", ["data_path", "video_path"])
@pytest.mark.parametrize("folder", ["\ud800", "a" * 5000])
def test_a_path_that_no_file_can_have_is_a_reject(tmp_path, version, key, folder):
    def change(info):
        info[key] = f"{folder}/{info[key]}"

    root = write_lerobot(tmp_path / "set", some_episodes(1), version, info=change)
    with pytest.raises(DataError, match=r"None of the 1 episodes.*_missing"):
        build_index(root, tmp_path / "out", workers=1)


@pytest.mark.parametrize(
    ("key", "template"),
    [
        ("data_path", "data/all.parquet"),
        ("video_path", "videos/{video_key}/all.mp4"),
        ("video_path", "videos/{episode_index:06d}.mp4"),
    ],
)
def test_a_template_that_does_not_tell_files_apart_is_refused(tmp_path, key, template):
    def change(info):
        info[key] = template

    root = write_lerobot(tmp_path / "set", some_episodes(1), "v2.1", info=change)
    with pytest.raises(
        DataError, match=rf"info\.json: {key} is '{template}'; allowed: a path with"
    ):
        build_index(root, tmp_path / "out", workers=1)


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "[" * 100_000, "version https://git-lfs.github.com"]
)
def test_an_info_that_is_no_object_is_one_error(tmp_path, text):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text(text)
    with pytest.raises(DataError, match=r"info\.json"):
        build_index(tmp_path, tmp_path / "out", workers=1)


def in_list(key, value):
    return lambda rows: rows[1].update({key: value})


ODD_LISTS = {
    "null length": (in_list("length", None), {"list_entry": 1}),
    "length in words": (in_list("length", "12"), {"list_entry": 1}),
    "negative length": (in_list("length", -12), {"list_entry": 1}),
    "absurd length": (in_list("length", 10**11), {"lengths_differ": 1}),
    "null number": (in_list("episode_index", None), {"list_entry": 1}),
    "negative number": (in_list("episode_index", -5), {"list_entry": 1}),
    "unknown number": (in_list("episode_index", 5), {"trajectory_missing": 1}),
    "dictionary of tasks": (in_list("tasks", {"a": 1}), {}),
    "one task": (in_list("tasks", "push"), {}),
}


@pytest.mark.parametrize("name", ODD_LISTS)
def test_an_odd_entry_of_the_list_is_the_reject_of_its_episode(tmp_path, name):
    change, reasons = ODD_LISTS[name]
    root = write_lerobot(tmp_path / "set", some_episodes(), "v2.1", rows=change)
    assert outcome(root, tmp_path / "out") == (2 - len(reasons), reasons)


@pytest.mark.parametrize("value", ["12", {"a": 1}, None, -12])
def test_an_odd_length_in_a_list_of_v3_is_a_reject(tmp_path, value):
    def change(rows):
        for row in rows[:1]:
            row["length"] = value
        if not isinstance(value, int | None):  # a column of parquet has one type
            rows[1]["length"] = value

    root = write_lerobot(tmp_path / "set", some_episodes(), "v3.0", rows=change)
    accepted, reasons = outcome(root, tmp_path / "out")
    assert reasons.pop("list_entry") + accepted + sum(reasons.values()) == 2


def test_a_line_that_is_no_json_is_a_reject(tmp_path):
    root = write_lerobot(tmp_path / "set", some_episodes(), "v2.1")
    with (root / "meta" / "episodes.jsonl").open("a") as file:
        file.write("{torn\n\n[1]\n" + "[" * 100_000 + "\n")
    with (root / "meta" / "episodes.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\n")
    assert outcome(root, tmp_path / "out") == (2, {"list_entry": 4})


def test_a_number_that_is_listed_twice_is_a_reject(tmp_path):
    root = write_lerobot(tmp_path / "set", some_episodes(), "v2.1", rows=lambda r: r.append(r[0]))
    assert outcome(root, tmp_path / "out") == (1, {"list_entry": 1})


@pytest.mark.parametrize("name", ["chunk_index", "file_index", "from_timestamp"])
def test_a_v3_list_without_a_column_is_one_error_that_names_it(tmp_path, name):
    def change(rows):
        for row in rows:
            del row[VIDEO + name]

    root = write_lerobot(tmp_path / "set", some_episodes(), "v3.0", rows=change)
    with pytest.raises(DataError, match=rf"file-000\.parquet has no column '{VIDEO}{name}'"):
        build_index(root, tmp_path / "out", workers=1)


@pytest.mark.parametrize("name", ["chunk_index", "file_index", "from_timestamp", "to_timestamp"])
@pytest.mark.parametrize("value", [None, -1])
def test_a_v3_episode_without_a_place_is_the_only_reject(tmp_path, name, value):
    root = write_lerobot(
        tmp_path / "set", some_episodes(), "v3.0", rows=in_list(VIDEO + name, value)
    )
    reasons = {} if (name, value) == ("to_timestamp", None) else {"list_entry": 1}
    assert outcome(root, tmp_path / "out") == (2 - len(reasons), reasons)


FRAME = 1 / 15
OVERLAPS = {
    "same span": [(0, 12), (0, 12), (24, 36)],
    "overlap": [(0, 12), (8, 20), (24, 36)],
    "contained": [(0, 24), (4, 16), (24, 36)],
    "start in another": [(0, 12), (0, 24), (24, 36)],
}


@pytest.mark.parametrize("name", OVERLAPS)
@pytest.mark.parametrize("with_ends", [True, False])
def test_episodes_on_one_span_of_a_video_are_all_rejected(tmp_path, name, with_ends):
    def change(rows):
        for row, (start, end) in zip(rows, OVERLAPS[name], strict=True):
            row[VIDEO + "from_timestamp"] = start * FRAME
            row[VIDEO + "to_timestamp"] = end * FRAME if with_ends else None

    root = write_lerobot(tmp_path / "set", some_episodes(3), "v3.0", rows=change)
    accepted, reasons = outcome(root, tmp_path / "out")
    assert reasons == {"video_span": 2}
    assert accepted == 1
    assert open_manifest(tmp_path / "out").rows[0]["record"] == 2


def test_a_span_of_another_length_or_place_is_a_reject(tmp_path):
    def change(rows):
        rows[1][VIDEO + "from_timestamp"] += 4 * FRAME
        rows[2][VIDEO + "to_timestamp"] += 40 * FRAME

    root = write_lerobot(tmp_path / "set", some_episodes(3), "v3.0", rows=change)
    assert outcome(root, tmp_path / "out") == (1, {"video_span": 2})


def test_true_spans_are_accepted_whatever_their_order_and_rounding(tmp_path):
    def change(rows):
        for row in rows:
            row[VIDEO + "from_timestamp"] += 0.002
        rows.reverse()

    states = some_episodes(3)
    root = write_lerobot(tmp_path / "set", states, "v3.0", rows=change)
    assert outcome(root, tmp_path / "out") == (3, {})
    manifest = open_manifest(tmp_path / "out")
    for row, truth in zip(manifest.rows, states, strict=True):
        wanted = draw_frames(truth, SIZE).astype(int)
        frames = open_row(manifest, row).camera("left").frames.read(np.arange(STEPS))
        assert np.abs(frames - wanted).mean() < 6


def test_placing_all_episodes_is_one_pass():
    """Each episode is visited a fixed number of times, however many share a video."""

    class Counted(dict):
        reads = 0

        def get(self, *args):
            Counted.reads += 1
            return super().get(*args)

    per_episode = []
    for count in (100, 2000):
        rows = {
            i: Counted(
                {
                    "length": 30,
                    VIDEO + "chunk_index": 0,
                    VIDEO + "file_index": 0,
                    VIDEO + "from_timestamp": 2.0 * i,
                }
            )
            for i in range(count)
        }
        Counted.reads = 0
        spans = video_spans(rows, LEFT, 15)
        assert [spans[i].first for i in range(count)] == [30 * i for i in range(count)]
        assert spans[0] == Span(0, 30 * count)
        per_episode.append(Counted.reads / count)
    assert per_episode[0] == per_episode[1]


def test_the_rows_of_a_shared_file_are_read_once(tmp_path, monkeypatch):
    root = write_lerobot(tmp_path / "set", some_episodes(4), "v3.0")
    opened = []
    whole = pq.ParquetFile

    def count(path, *args, **kwargs):
        opened.append(path)
        return whole(path, *args, **kwargs)

    monkeypatch.setattr(lerobot_rows.pq, "ParquetFile", count)
    assert outcome(root, tmp_path / "out") == (4, {})
    assert len(opened) <= 2


OUTSIDE = ["../away/{episode_index:06d}", "/etc/passwd", "a/../../away", "..\\away", ""]


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("key", ["data_path", "video_path"])
def test_paths_that_lead_out_of_the_set_are_rejects(tmp_path, path, key):
    change = {key: path}
    root = write_lerobot(tmp_path / "set", some_episodes(), "v2.1", info=lambda i: i.update(change))
    assert outcome(root, tmp_path / "out") == (0, {"path_outside": 2})


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_images_in_the_rows_are_read(tmp_path, version):
    states = some_episodes()
    root = write_lerobot(tmp_path / "set", states, version, image_views=True)
    assert outcome(root, tmp_path / "out") == (2, {})
    manifest = open_manifest(tmp_path / "out")
    assert manifest.rows[0]["frame_size"] == list(SIZE)
    steps = np.array([1, 5, 11])
    for row, truth in zip(manifest.rows, states, strict=True):
        episode = open_row(manifest, row)
        assert list(episode.cameras) == ["left"]
        found = episode.camera("left").frames.read(steps).astype(int)
        assert np.abs(found - draw_frames(truth, SIZE)[steps]).mean() < 4


ODD_IMAGES = {
    "null": (None, "image_missing"),
    "only a path": ({"bytes": None, "path": "images/0.png"}, "image_missing"),
    "no image": ({"bytes": b"text", "path": None}, "image_damaged"),
}


@pytest.mark.parametrize("name", ODD_IMAGES)
def test_odd_images_in_the_rows_are_rejects(tmp_path, name):
    value, reason = ODD_IMAGES[name]
    change = in_row(LEFT, value)
    root = write_lerobot(
        tmp_path / "set", some_episodes(), "v2.1", columns=change, image_views=True
    )
    assert outcome(root, tmp_path / "out") == (1, {reason: 1})


def test_image_views_without_a_column_say_so(tmp_path):
    root = write_lerobot(
        tmp_path / "set",
        some_episodes(),
        "v2.1",
        columns=lambda n, c: c.pop(LEFT),
        image_views=True,
    )
    assert outcome(root, tmp_path / "out") == (0, {"video_missing": 2})
    assert "dtype image" in (tmp_path / "out" / "rejects.jsonl").read_text()


def test_files_that_are_no_parquet_are_rejects(tmp_path):
    root = write_lerobot(tmp_path / "set", some_episodes(4), "v2.1")
    files = sorted(root.rglob("episode_*.parquet"))
    files[0].write_text("version https://git-lfs.github.com/spec/v1\n")
    files[1].write_bytes(files[1].read_bytes()[:300])
    files[2].unlink()
    os.mkfifo(files[2])
    reasons = {"trajectory_unreadable": 2, "not_a_file": 1}
    assert outcome(root, tmp_path / "out") == (1, reasons)


def test_a_file_that_declares_the_absurd_is_a_reject(tmp_path, monkeypatch):
    root = write_lerobot(tmp_path / "set", some_episodes(), "v2.1")
    path = sorted(root.rglob("episode_*.parquet"))[1]
    table = pa.table({"episode_index": pa.array(np.ones(3_000_000, np.int64))})
    pq.write_table(table, path, row_group_size=3_000_000)
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(lerobot_rows, "MAX_VALUES", 1_000_000)
    assert outcome(root, tmp_path / "out") == (1, {"array_too_large": 1})


def test_a_changed_description_is_looked_at_again(tmp_path):
    root = write_lerobot(tmp_path / "set", some_episodes(), "v2.1")
    assert outcome(root, tmp_path / "out") == (2, {})
    info = json.loads((root / "meta" / "info.json").read_text())
    (root / "meta" / "info.json").write_text(json.dumps({**info, "fps": 30}))
    lerobot_list.read_info.cache_clear()
    assert build_index(root, tmp_path / "out", workers=1)["inspected"] == 2
    assert lerobot.episode_files(root, 0)[0].name == "info.json"
