"""Results survive a stop, and are dropped when they were made by something else."""

import pytest

from worldmodel.kept_results import KeptResults


def test_results_are_there_after_a_stop_in_mid_line(tmp_path):
    path = tmp_path / "out" / "results.jsonl"
    kept = KeptResults(path, {"size": (1, 2)})  # never closed, as by a signal
    kept.add("a", [1.5, float("nan")])
    kept.add("b", {"hit": True})
    with path.open("a") as file:
        file.write('{"key": "c", "val')
    with KeptResults(path, {"size": (1, 2)}) as kept:
        assert kept.get("a")[0] == 1.5
        assert kept.get("c") is None
        kept.add("c", 3)
    with KeptResults(path, {"size": (1, 2)}) as kept:
        assert [kept.get(key) for key in "bc"] == [{"hit": True}, 3]


@pytest.mark.parametrize(
    "content", ["", "no json\n", "[1]\n", "\xff" * 9, '{"made_by": {"x": 2}}\n']
)
def test_other_results_are_dropped(tmp_path, content):
    path = tmp_path / "results.jsonl"
    path.write_text(content + '{"key": "a", "value": 1}\n', encoding="latin-1")
    with KeptResults(path, {"x": 1}) as kept:
        assert kept.get("a") is None
        kept.add("b", 2)
    with KeptResults(path, {"x": 1}) as kept:
        assert kept.get("b") == 2


def test_values_of_another_kind_count_as_missing(tmp_path):
    path = tmp_path / "results.jsonl"
    with KeptResults(path, {}) as kept:
        kept.add("a", 1)
        kept.add("b", "x")
    with KeptResults(path, {}, fits=lambda value: type(value) is int) as kept:
        assert [kept.get(key) for key in "ab"] == [1, None]


def test_without_a_file_they_are_in_memory():
    with KeptResults(None, {}) as kept:
        kept.add("a", 1)
        assert kept.get("a") == 1
