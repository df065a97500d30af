"""Two episodes that claim one span of a video are both rejected."""

import json

import pytest

from tests.worldmodel.data.other_layouts import write_lerobot
from worldmodel.data.index import build_index
from worldmodel.data.writers.synthetic import random_states
from worldmodel.errors import DataError

VIDEO = "videos/observation.images.exterior_1_left/"


def test_both_are_rejected(tmp_path):
    def same(rows):
        for row in rows:
            row[VIDEO + "from_timestamp"] = 0.0

    root = write_lerobot(
        tmp_path / "in", [random_states(8, seed) for seed in (0, 1)], "v3.0", rows=same
    )
    with pytest.raises(DataError, match="None of the 2 episodes"):
        build_index(root, tmp_path / "out", workers=1)
    rejects = (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()
    assert [json.loads(row)["reason"] for row in rejects] == ["video_span"] * 2
