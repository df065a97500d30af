"""Self-contained `training.html` with a run's verdict, curves and options."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from worldmodel.atomic_io import write_text
from worldmodel.dotted_names import dotted
from worldmodel.training.chart import Points, figure, line_chart
from worldmodel.training.config import AnyOptions, PostOptions
from worldmodel.training.decoded import FILE as ROLLOUT_PICTURES
from worldmodel.training.metrics import Row, read_rows
from worldmodel.training.run_options import RunConfig
from worldmodel.training.verdict import ROLLOUTS, Finding, is_detail, is_validation, last_validation

FILE = "training.html"
DEGREES = math.degrees(1)
BOOKKEEPING = {"step", "lr", "grad_norm", "samples_per_s", "data_wait", "eta_s", "momentum"}
"""Metrics of a row that are not losses."""
LABELS = {
    "val_true": "prediction, recorded actions",
    "val_copy": "copy of the last frame",
    "val_shuffled": "prediction, actions of other clips",
    "val_loss": "masked prediction",
    "val_mean": "mean of each position",
    "val_action_error_m": "planned move",
    "val_action_zero_m": "no move",
    "val_object_encoded_m": "object, encoded frame",
    "val_object_predicted_m": "object, predicted frame",
    "val_head_encoded_m": "object head, encoded frame",
    "val_head_imagined_m": "object head, last imagined frame",
    "val_head_encoded_rad": "yaw by the object head, encoded frame",
    "val_head_imagined_rad": "yaw by the object head, last imagined frame",
    "val_head_encoded_second_m": "worse of two objects, encoded frame",
    "val_head_imagined_second_m": "worse of two objects, last imagined frame",
    "probe_tcp_m": "finger, linear probe",
    "probe_tcp_mean_m": "finger, mean position",
    "probe_object_m": "object, linear probe",
    "probe_object_mean_m": "object, mean position",
    "feature_std": "spread of the features",
    "effective_rank": "effective rank",
    "effective_rank_student": "effective rank of the trained encoder",
    "effective_rank_average": "effective rank of its moving average",
    "colour_share": "share of variance that the patch's colour explains",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
}
STYLE = """
:root { color-scheme: light dark; --text: #1d2126; --soft: #5b646d; --back: #fff; --line: #d8dce1;
  --good: #2f7d32; --bad: #b3261e; --c0: #0b62a4; --c1: #c4500c; --c2: #2f7d32; --c3: #8e24aa;
  --c4: #00838f; --c5: #ad1457; --c6: #6d4c41; --c7: #455a64; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ec; --soft: #a2abb4; --back: #14181c;
  --line: #38414a; --good: #6fce87; --bad: #ff8f80; --c0: #7db4f5; --c1: #ffa45c; --c2: #6fce87;
  --c3: #d59be8; --c4: #4fc8d4; --c5: #f48fb1; --c6: #c5a79b; --c7: #b0bec5; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
  max-width: 1180px; margin: 2em auto; padding: 0 1em; overflow-wrap: anywhere; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 1.6em; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr));
  gap: 1em; }
figure { margin: 0; padding: .6em; border: 1px solid var(--line); border-radius: 6px; }
figcaption { font-weight: 600; } .legend { margin: 0; font-size: .85em; color: var(--soft); }
.legend span { display: inline-block; margin-right: 1em; }
img { width: 100%; max-width: 1000px; image-rendering: pixelated; border-radius: 6px; }
svg { width: 100%; font: 11px system-ui, sans-serif; }
svg rect { fill: none; stroke: var(--soft); } svg line { stroke: var(--line); }
svg polyline { fill: none; stroke-width: 1.6; } svg text { fill: var(--soft); }
ul.verdict { list-style: none; padding: 0; } ul.verdict li { margin: .3em 0; }
.good { color: var(--good); font-weight: 700; } .bad { color: var(--bad); font-weight: 700; }
table { border-collapse: collapse; font-size: .9em; } td { padding: .15em 1.2em .15em 0; }
td:first-child { overflow-wrap: normal; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
details { margin-top: 1.2em; } .muted { color: var(--soft); }
@media (max-width: 34rem) { svg { font-size: 15px; } }
"""


def label(name: str) -> str:
    """Return the display name of a metric."""
    return LABELS.get(name, name.removeprefix("val_").replace("_", " "))


def _series(rows: list[Row], names: list[str], scale: float = 1.0) -> dict[str, Points]:
    found: dict[str, Points] = {}
    for name in names:
        points = [(row["step"], scale * row[name]) for row in rows if name in row]
        if points:
            found[label(name)] = points
    return found


def _charts(rows: list[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    losses = [n for n in names if n not in BOOKKEEPING and not is_validation(n)]
    lengths = [n for n in names if is_validation(n) and n.endswith("_m") and not is_detail(n)]
    ranks = [n for n in names if n.startswith("effective_rank")]
    classes = [n for n in names if n.startswith("probe_") and not n.endswith("_m")]
    charts = [
        line_chart("Training loss", _series(rows, ["loss"])),
        line_chart(
            "Loss on held-out clips",
            _series(rows, ["val_copy", "val_shuffled", "val_true", "val_mean", "val_loss"]),
        ),
        line_chart("Listening to actions: loss with other clips' actions, relative", _ratio(rows)),
        _rollout_chart(rows),
        line_chart("Errors on held-out clips [cm]", _series(rows, lengths, 100.0)),
        line_chart("Parts of the training loss", _series(rows, [n for n in losses if n != "loss"])),
        line_chart("Spread of the features", _series(rows, ["feature_std"])),
        line_chart("Effective rank of the features", _series(rows, ranks)),
        line_chart("Variance that a patch's colour explains", _series(rows, ["colour_share"])),
        line_chart("Linear probes of whole clips: share that is right", _series(rows, classes)),
        line_chart("Learning rate", _series(rows, ["lr"])),
        line_chart("Gradient norm", _series(rows, ["grad_norm"])),
    ]
    return "".join(charts)


def _ratio(rows: list[Row]) -> dict[str, Points]:
    """Return the ratio of the losses with other clips' actions and with the recorded ones."""
    keys = {"val_shuffled", "val_true"}
    points = [
        (row["step"], row["val_shuffled"] / max(row["val_true"], 1e-12))
        for row in rows
        if keys <= row.keys()
    ]
    return {"other / recorded; 1 means that actions are ignored": points} if points else {}


def _rollout_chart(rows: list[Row]) -> str:
    """Plot the error by imagined step at the last validation, beside those of wrong actions."""
    row = last_validation(rows)
    series: dict[str, Points] = {}
    for words, pattern in ROLLOUTS.items():
        found = ((pattern.fullmatch(key), value) for key, value in row.items())
        points = [(float(match[1]), value) for match, value in found if match]
        if points:
            series[words] = sorted(points)
    return line_chart("Error by imagined step, last validation", series, "imagined step")


def _axes_table(row: Row) -> str:
    """Return a table of the planned actions' errors by axis, beside those of not moving."""
    cells = []
    for axis in ("", "x_", "y_", "z_"):
        cells.append(_axis_row(row, f"{axis}m", axis.strip("_") or "move", 100, "cm"))
    for axis in ("", "roll_", "pitch_", "yaw_"):
        cells.append(_axis_row(row, f"{axis}rad", axis.strip("_") or "turn", DEGREES, "degrees"))
    text = "".join(cells)
    if not text:
        return ""
    head = "<tr><td></td><td>planned</td><td>no motion</td></tr>"
    return (
        "<h2>Planned actions against recorded ones</h2>"
        f"<table>{head}{text}</table><p class='muted'>Mean error on plan_clips held-out clips.</p>"
    )


def _axis_row(row: Row, key: str, name: str, scale: float, unit: str) -> str:
    keys = (f"val_action_error_{key}", f"val_action_zero_{key}")
    if not row.keys() >= set(keys):
        return ""
    error, still = (f"{scale * row[k]:.2f} {unit}" for k in keys)
    number = '<td class="number">'
    return f"<tr><td>{name}</td>{number}{error}</td>{number}{still}</td></tr>"


def _pictures(out: Path) -> str:
    """Return the decoded roll-outs, if the run wrote them."""
    path = out / ROLLOUT_PICTURES
    if not path.is_file():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        "<h2>Decoded roll-outs</h2><p class='muted'>Two rows for each held-out clip: the recorded "
        "frames, and what the model imagines from the first frame and the recorded actions. Both "
        "are shown by the picture decoder.</p>"
        f'<img alt="Decoded roll-outs of held-out clips" src="data:image/png;base64,{data}">'
    )


def _option_rows(options: AnyOptions) -> str:
    defaults = dict(dotted(dataclasses.asdict(type(options)())))
    cells = []
    for name, value in dotted(dataclasses.asdict(options)):
        mark = "" if value == defaults[name] else ' class="good"'
        cells.append(f"<tr><td{mark}>{escape(name)}</td><td>{escape(str(value))}</td></tr>")
    return "".join(cells)


def _figure_rows(row: Row) -> str:
    cells = []
    for name, value in row.items():
        if not is_validation(name) or is_detail(name):
            continue
        shown = figure(value)
        if name.endswith("_m"):
            shown = f"{figure(100 * value)} cm"
        elif name.endswith("_rad"):
            shown = f"{figure(DEGREES * value)} degrees"
        cells.append(f'<tr><td>{escape(label(name))}</td><td class="number">{shown}</td></tr>')
    return "".join(cells)


def _data(options: AnyOptions) -> str:
    if not isinstance(options.run, RunConfig):
        return "made clips of moving shapes"
    made = options.clips.make_data if isinstance(options, PostOptions) else 0
    return f"{made} synthetic episodes" if made else f"data {options.run.data}"


def page(rows: list[Row], options: AnyOptions, findings: list[Finding]) -> str:
    """Compose the page."""
    last = rows[-1] if rows else {}
    mode, done = getattr(options, "mode", "pretrain"), int(last.get("step", -1)) + 1
    title = f"Training of {Path(options.run.out).name}"
    verdict = "".join(
        f'<li><span class="{"good" if f.good else "bad"}">{"Yes" if f.good else "No"}</span> '
        f"{escape(f.text)}</li>"
        for f in findings
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>"
        f'<p class="muted">{escape(mode)}, {done} of {options.loop.steps} steps, batches of '
        f"{options.loop.batch_size} clips, seed {options.run.seed}, {escape(_data(options))}</p>"
        f'<h2>Verdict</h2><ul class="verdict">{verdict or "<li>No validation yet.</li>"}</ul>'
        f'<h2>Curves</h2><div class="charts">{_charts(rows)}</div>'
        f"{_axes_table(last_validation(rows))}{_pictures(Path(options.run.out))}"
        f"<h2>Last validation</h2><table>{_figure_rows(last_validation(rows))}</table>"
        "<details><summary>Options (changed ones in green)</summary>"
        f"<table>{_option_rows(options)}</table></details></body></html>\n"
    )


def write_report(
    out: Path, options: AnyOptions, verdict: Callable[[Sequence[Row]], list[Finding]]
) -> Path:
    """Write training.html from the run's metrics and return its path."""
    rows = read_rows(out / "metrics.jsonl")
    path = out / FILE
    write_text(path, page(rows, options, verdict(rows)))
    return path
