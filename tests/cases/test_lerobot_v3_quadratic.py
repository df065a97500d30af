"""Placing an episode of a v3.0 list costs the same whatever the number of episodes."""

import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq

from worldmodel.data.readers import lerobot
from worldmodel.data.readers.options import ReadOptions

KEY = "observation.images.exterior_1_left"
VIDEO = f"videos/{KEY}/"


def calls_to_place(root, count):
    """Count the Python calls of placing 20 episodes of `count`."""
    (root / "meta/episodes").mkdir(parents=True)
    info = {"codebase_version": "v3.0", "features": {KEY: {}}}
    info |= {"data_path": "d/{file_index}", "video_path": "v/{file_index}"}
    (root / "meta/info.json").write_text(json.dumps(info))
    rows = [
        {
            "episode_index": i,
            "length": 300,
            "data/chunk_index": 0,
            "data/file_index": 0,
            VIDEO + "chunk_index": 0,
            VIDEO + "file_index": i // 100,
            VIDEO + "from_timestamp": i % 100 * 20.0,
        }
        for i in range(count)
    ]
    pq.write_table(pa.Table.from_pylist(rows), root / "meta/episodes/f.parquet")
    lerobot.episode_numbers(root)
    calls = 0

    def count_call(*_):
        nonlocal calls
        calls += 1

    options = ReadOptions(inspect=False)
    sys.setprofile(count_call)
    try:
        for number in range(count - 20, count):
            frames = lerobot._frames(root, number, KEY, options)
            assert frames.first == number % 100 * 300
    finally:
        sys.setprofile(None)
    return calls


def test_the_cost_of_one_does_not_grow(tmp_path):
    assert calls_to_place(tmp_path / "few", 200) >= calls_to_place(tmp_path / "many", 5000)
