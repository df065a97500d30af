import json
import re
import xml.etree.ElementTree as ET

import pytest

from worldmodel.training.chart import figure, line_chart, log_ticks, nice_ticks
from worldmodel.training.config import JointOptions, PostOptions
from worldmodel.training.metrics import write_scalars
from worldmodel.training.option_groups import LoopConfig, RunConfig
from worldmodel.training.report import page, write_report
from worldmodel.training.verdict import as_dict, judge_prediction, judge_pretraining

GOOD = {"val_true": 0.5, "val_copy": 1.0, "val_shuffled": 0.8}
GOOD |= {"val_action_error_m": 0.012, "val_action_zero_m": 0.034}


def test_a_good_models_verdict_has_words_and_figures():
    found = judge_prediction(GOOD)
    assert all(f.good for f in found)
    text = " ".join(f.text for f in found)
    assert "better than copying the last frame: loss 0.5000, 50 % below the copy's 1.0000" in text
    assert "uses its actions: with the actions of other clips the loss is 0.8000" in text
    assert "error of planned moves is 1.2 cm, less than the 3.4 cm of not moving" in text
    assert as_dict(found)["good"] is True


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"val_true": 1.1}, "prediction", "NOT better than copying"),
        ({"val_true": 0.99}, "prediction", "NOT better than copying"),
        ({"val_shuffled": 0.5}, "actions", "does NOT use"),
        ({"val_action_error_m": 0.05}, "planning", "NOT less than"),
    ],
)
def test_each_fault_of_a_model_is_said(changes, name, words):
    bad = [f for f in judge_prediction(GOOD | changes) if not f.good]
    assert name in {f.name for f in bad}
    assert words in " ".join(f.text for f in bad)


def test_pretraining_is_judged_by_loss_and_collapse():
    row = {"val_loss": 0.4, "val_mean": 0.8, "feature_std": 0.7, "effective_rank": 40.0}
    row |= {"probe_tcp_m": 0.03, "probe_tcp_mean_m": 0.09}
    assert all(f.good for f in judge_pretraining(row, 0.02))
    dead = judge_pretraining(row | {"feature_std": 0.001, "effective_rank": 1.0}, 0.02)
    assert "COLLAPSED" in next(f.text for f in dead if not f.good)
    assert "effective rank 1.0" in next(f.text for f in dead if not f.good)


def test_without_a_validation_there_is_no_verdict():
    assert judge_prediction({"loss": 1.0}) == judge_pretraining({"loss": 1.0}, 0.02) == []
    assert as_dict([]) == {"good": None, "findings": []}


def test_numbers_are_rounded_for_people():
    assert [figure(x) for x in (0.0, 0.0123456, 1.0, 1234.56)] == ["0", "0.0123", "1.00", "1,235"]
    assert figure(3.7e-5) == "3.70e-5"
    assert nice_ticks(0.0, 1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert log_ticks(0.1, 1000) == [0.1, 1, 10, 100, 1000]


def test_a_chart_is_valid_svg_within_its_frame():
    series = {"a <b>": [(0, 1.0), (50, 200.0), (99, float("nan"))], "c": [(0, 3.0), (99, 4.0)]}
    html = line_chart("Loss & more", series)
    svg = ET.fromstring(re.search(r"<svg.*</svg>", html)[0])
    lines = svg.findall("polyline")
    assert len(lines) == 2
    width, height = (float(x) for x in svg.attrib["viewBox"].split()[2:])
    for line in lines:
        for pair in line.attrib["points"].split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height
    assert "a &lt;b&gt;" in html
    assert line_chart("empty", {"a": [(0, float("inf"))]}) == ""


def test_the_page_holds_verdict_curves_options_and_no_link(tmp_path):
    rows = [{"step": s, "lr": 1e-3, "loss": 1 / (s + 1), "grad_norm": 1.0} for s in range(40)]
    rows[-1] |= GOOD
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 40, "lo')  # a kill cut the last row
    options = JointOptions(run=RunConfig(out=str(tmp_path)), loop=LoopConfig(steps=40))
    html = write_report(tmp_path, options, judge_prediction).read_text()
    assert "uses its actions" in html
    assert html.count("<svg") == 5
    assert "40 of 40 steps" in html
    assert "regularizers.variance" in html
    assert "http" not in html
    assert "<script" not in html
    assert "No validation yet" in page([], PostOptions(), [])


def test_tensorboard_scalars_are_grouped():
    class Board(list):
        def add_scalar(self, tag, scalar_value, global_step):
            self.append(tag)

    board = Board()
    write_scalars(board, 3, {"step": 3, "loss": 1.0}, {"val_true": 0.5, "feature_std": 0.7})
    assert board == ["train/loss", "val/true", "val/feature_std"]
