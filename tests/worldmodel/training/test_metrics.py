"""Rows of metrics.jsonl."""

import math

import pytest

from worldmodel.errors import TrainingError
from worldmodel.training.metrics import MetricsLog, read_rows


@pytest.mark.parametrize("line", ["{not json}", "[1]", '{"loss": 1}', "[" * 100_000])
def test_a_damaged_line_of_the_metrics_is_named_and_a_torn_last_one_is_not(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 0}}\n{line}\n{{"step": 2}}\n')
    for read in (read_rows, lambda path: MetricsLog(path, 1)):
        with pytest.raises(TrainingError, match=r"metrics\.jsonl, line 2"):
            read(path)
    path.write_text(f'{{"step": 0}}\n{line}')
    assert read_rows(path) == [{"step": 0}]


def test_a_value_that_is_not_finite_is_null_in_the_file_and_nan_when_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    MetricsLog(path, 0).write({"step": 0, "loss": math.nan, "val": 1.0})
    assert path.read_text() == '{"step": 0, "loss": null, "val": 1.0}\n'
    (row,) = read_rows(path)
    assert math.isnan(row["loss"])
    assert (row["step"], row["val"]) == (0, 1.0)
