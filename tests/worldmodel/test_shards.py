"""Shards: what belongs to which, and what a merge refuses."""

import json
import shutil

import pytest

from worldmodel.errors import ConfigError, DataError
from worldmodel.shards import (
    RECORD,
    Shard,
    begin_shard,
    finish_shard,
    interleave,
    read_shards,
    shards_folder,
    spans,
)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_shards_divide_a_list_and_join_to_it_again(count):
    items = list(range(11))
    parts = [Shard(number=i, count=count).of(items) for i in range(count)]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert interleave(parts) == items


def test_a_shard_beyond_the_count_is_refused():
    with pytest.raises(ConfigError, match=r"shard=3 of shards=3; allowed: 0 to 2"):
        Shard(number=3, count=3)
    with pytest.raises(ConfigError, match="number=-1"):
        Shard(number=-1, count=3)


def make(out, numbers, count=4, **made_by):
    for number in numbers:
        shard = Shard(number=number, count=count)
        record = begin_shard(shard.folder(out), "eval", shard, made_by)
        finish_shard(shard.folder(out), record, {"n": number})


def test_shards_are_read_in_order(tmp_path):
    out = tmp_path / "out"
    make(out, [10, 2, *range(2), *range(3, 10)], count=11, seed=3)
    assert [record.result["n"] for _, record in read_shards(out)] == list(range(11))


def test_missing_and_unfinished_shards_are_named(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(DataError, match="holds no shard"):
        read_shards(out)
    make(out, [0, 6], count=8)
    shard = Shard(number=3, count=8)
    begin_shard(shard.folder(out), "eval", shard, {})
    (shards_folder(out) / "hydra").mkdir()
    with pytest.raises(DataError, match=r"of 8 shards are missing: 1-2, 4-5, 7; not finished: 3\."):
        read_shards(out)


def test_doubled_shards_are_named(tmp_path):
    out = tmp_path / "out"
    make(out, range(4))
    shutil.copytree(shards_folder(out) / "2-of-4", shards_folder(out) / "2-of-4 copy")
    with pytest.raises(DataError, match="holds shards twice: 2 in 2-of-4 and 2-of-4 copy"):
        read_shards(out)
    shutil.rmtree(shards_folder(out) / "2-of-4 copy")
    make(out, [1], count=2)
    with pytest.raises(DataError, match=r"several splits \(1 of shards=2, 4 of shards=4\)"):
        read_shards(out)


def test_shards_of_two_runs_are_refused_with_the_difference(tmp_path):
    out = tmp_path / "out"
    make(out, range(3), fps=4, what="x")
    shutil.rmtree(Shard(number=2, count=4).folder(out), ignore_errors=True)
    make(out, [2], fps=4, what="x")
    make(out, [3], fps=5, what="x")
    with pytest.raises(ConfigError, match="not of one run \\(fps: 4, 5\\)"):
        read_shards(out)
    with pytest.raises(ConfigError, match="holds results of something else \\(fps: 5, 6\\)"):
        make(out, [3], fps=6, what="x")
    make(out, [3], fps=5, what="x")  # the same again: resumes


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"shard": 1}', "[" * 100_000])
def test_a_torn_record_counts_as_missing(tmp_path, text):
    out = tmp_path / "out"
    make(out, range(4))
    (shards_folder(out) / "1-of-4" / RECORD).write_text(text)
    with pytest.raises(DataError, match="missing: 1"):
        read_shards(out)


def test_a_record_with_other_entries_counts_as_missing(tmp_path):
    out = tmp_path / "out"
    make(out, range(2), count=2)
    file = shards_folder(out) / "1-of-2" / RECORD
    file.write_text(json.dumps(json.loads(file.read_text()) | {"shard": 7}))
    with pytest.raises(DataError, match="missing: 1"):
        read_shards(out)


def test_spans():
    assert spans([]) == ""
    assert spans([3]) == "3"
    assert spans([0, 1, 2, 5, 8, 9]) == "0-2, 5, 8-9"
