import json
import re
import xml.etree.ElementTree as ET

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from worldmodel.training.chart import figure, line_chart, log_ticks, nice_ticks
from worldmodel.training.config import JointOptions, PostOptions
from worldmodel.training.experiment import grouped, open_tracker
from worldmodel.training.report import page, write_report
from worldmodel.training.run_options import LoopConfig, RunConfig
from worldmodel.training.verdict import as_dict, judge_course, judge_prediction, judge_pretraining

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
        ({"val_copy": 0.0}, "prediction", "which is exact: the held-out frames have equal"),
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
    still = judge_pretraining(row | {"val_mean": 1e-9}, 0.02)
    assert "than each position's mean, which is exact" in next(f.text for f in still if not f.good)


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
    html = write_report(tmp_path, options, lambda rows: judge_prediction(rows[-1])).read_text()
    assert "uses its actions" in html
    assert html.count("<svg") == 6
    assert "40 of 40 steps" in html
    assert "regularizers.variance" in html
    assert "http" not in html
    assert "<script" not in html
    assert "No validation yet" in page([], PostOptions(), [])


def test_a_run_that_overfits_is_told_the_step():
    losses = [0.9, 0.5, 0.4, 0.45]
    rows = [{"step": 100.0 * i, "val_true": loss} for i, loss in enumerate(losses)]
    (found,) = judge_course(rows)
    assert not found.good
    assert "lowest at step 200 and is 12 % higher now" in found.text
    (found,) = judge_course(rows[:3])
    assert found.good
    assert "the same as its lowest, at step 200" in found.text
    assert judge_course(rows[:2]) == []


def test_turns_are_judged_where_the_data_hold_any():
    row = GOOD | {"val_action_error_rad": 0.05, "val_action_zero_rad": 0.1}
    found = next(f for f in judge_prediction(row) if f.name == "turning")
    assert found.good
    assert "planned turns is 2.9 degrees, less than the 5.7 degrees of not turning" in found.text
    still = judge_prediction(row | {"val_action_zero_rad": 0.0})
    assert "turning" not in {f.name for f in still}


def test_the_page_shows_axes_curves_and_pictures(tmp_path):
    axes = {f"val_action_{n}_{a}": 0.01 for n in ("error", "zero") for a in ("m", "x_m", "yaw_rad")}
    steps = {
        f"val_{n}_{k}": 0.1 * k for n in ("step", "copy_step", "shuffled_step") for k in (1, 2)
    }
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1} | GOOD | axes | steps) + "\n")
    (tmp_path / "rollouts.png").write_bytes(b"png")
    html = write_report(
        tmp_path, JointOptions(run=RunConfig(out=str(tmp_path))), lambda rows: []
    ).read_text()
    assert '<td>x</td><td class="number">1.00 cm</td>' in html
    assert '<td>yaw</td><td class="number">0.57 degrees</td>' in html
    assert "Error by imagined step, last validation" in html
    assert "actions of other clips 0.200" in html
    assert "data:image/png;base64,cG5n" in html


def test_a_trackers_scalars_are_grouped(tmp_path):
    values = grouped({"step": 3, "loss": 1.0}, {"val_true": 0.5, "feature_std": 0.7})
    assert values == {"train/loss": 1.0, "val/true": 0.5, "val/feature_std": 0.7}
    board = open_tracker("tensorboard", tmp_path, 0, {})
    board.log(values, 3)
    board.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    events = EventAccumulator(str(file)).Reload()
    assert events.Tags()["scalars"] == ["train/loss", "val/true", "val/feature_std"]
    (event,) = events.Scalars("val/true")
    assert (event.step, event.value) == (3, 0.5)
    assert open_tracker("none", tmp_path, 0, {}) is None


@pytest.mark.parametrize("kind", ["trackio", "wandb"])
def test_a_trackers_run_is_stored_on_this_machine(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    pytest.importorskip(kind)
    tracker = open_tracker(kind, tmp_path / "my run", 0, {"loop": {"steps": 3}})
    for step in range(3):
        tracker.log({"train/loss": 1.0 / (step + 1)}, step)
    tracker.close()
    kept = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert any(name.endswith((".db", ".wandb")) for name in kept), kept
