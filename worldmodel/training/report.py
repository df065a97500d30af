"""Self-contained `training.html` with a run's verdict, curves and options."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

from worldmodel.atomic_io import write_text
from worldmodel.training.chart import Points, figure, line_chart
from worldmodel.training.config import AnyOptions, PostOptions
from worldmodel.training.metrics import Row, read_rows
from worldmodel.training.option_groups import RunConfig
from worldmodel.training.verdict import Finding

FILE = "training.html"
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
HEALTH = {"feature_std", "colour_share"}
"""Metrics of the features at a validation, besides ranks."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2126; max-width: 1180px; margin: 2em auto;
  padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 1.6em; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 1em; }
figure { margin: 0; padding: .6em; border: 1px solid #d8dce1; border-radius: 6px; }
figcaption { font-weight: 600; } .legend { margin: 0; font-size: .85em; color: #40464d; }
.legend span { white-space: nowrap; margin-right: 1em; }
svg { width: 100%; font: 11px system-ui, sans-serif; }
svg rect { fill: none; stroke: #b8bec5; } svg line { stroke: #e7eaee; }
svg polyline { fill: none; stroke-width: 1.6; } svg text { fill: #555c64; }
ul.verdict { list-style: none; padding: 0; } ul.verdict li { margin: .3em 0; }
.good { color: #2f7d32; font-weight: 700; } .bad { color: #b3261e; font-weight: 700; }
table { border-collapse: collapse; font-size: .9em; } td { padding: .15em 1.2em .15em 0; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
details { margin-top: 1.2em; } .muted { color: #666d75; }
"""


def label(name: str) -> str:
    """Return the display name of a metric."""
    if name.startswith("val_step_"):
        return f"error of imagined step {name.removeprefix('val_step_')}"
    return LABELS.get(name, name.removeprefix("val_").replace("_", " "))


def _series(rows: list[Row], names: list[str], scale: float = 1.0) -> dict[str, Points]:
    found: dict[str, Points] = {}
    for name in names:
        points = [(row["step"], scale * row[name]) for row in rows if name in row]
        if points:
            found[label(name)] = points
    return found


def _is_validation(name: str) -> bool:
    return name.startswith(("val_", "probe_", "effective_rank")) or name in HEALTH


def _charts(rows: list[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    losses = [n for n in names if n not in BOOKKEEPING and not _is_validation(n)]
    lengths = [n for n in names if _is_validation(n) and n.endswith("_m")]
    steps = [n for n in names if n.startswith("val_step_")]
    ranks = [n for n in names if n.startswith("effective_rank")]
    classes = [n for n in names if n.startswith("probe_") and not n.endswith("_m")]
    charts = [
        line_chart("Training loss", _series(rows, ["loss"])),
        line_chart(
            "Loss on held-out clips",
            _series(rows, ["val_copy", "val_shuffled", "val_true", "val_mean", "val_loss"]),
        ),
        line_chart("Errors on held-out clips [cm]", _series(rows, lengths, 100.0)),
        line_chart("Parts of the training loss", _series(rows, [n for n in losses if n != "loss"])),
        _rollout_chart(rows, steps),
        line_chart("Spread of the features", _series(rows, ["feature_std"])),
        line_chart("Effective rank of the features", _series(rows, ranks)),
        line_chart("Variance that a patch's colour explains", _series(rows, ["colour_share"])),
        line_chart("Linear probes of whole clips: share that is right", _series(rows, classes)),
        line_chart("Learning rate", _series(rows, ["lr"])),
        line_chart("Gradient norm", _series(rows, ["grad_norm"])),
    ]
    return "".join(charts)


def _rollout_chart(rows: list[Row], names: list[str]) -> str:
    """Plot the error by predicted step at the last validation."""
    last = next((row for row in reversed(rows) if names and names[0] in row), None)
    if last is None:
        return ""
    points = [(float(name.removeprefix("val_step_")), last[name]) for name in names]
    return line_chart("Error by imagined step", {"last validation": points}, "imagined step")


def _flat(options: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    if not dataclasses.is_dataclass(options):
        return
    for item in dataclasses.fields(options):
        value: object = getattr(options, item.name)
        if dataclasses.is_dataclass(value):
            yield from _flat(value, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", value


def _option_rows(options: AnyOptions) -> str:
    defaults = dict(_flat(type(options)()))
    cells = []
    for name, value in _flat(options):
        mark = "" if value == defaults[name] else ' class="good"'
        cells.append(f"<tr><td{mark}>{escape(name)}</td><td>{escape(str(value))}</td></tr>")
    return "".join(cells)


def _last_validation(rows: list[Row]) -> Row:
    return next((row for row in reversed(rows) if any(map(_is_validation, row))), {})


def _figure_rows(row: Row) -> str:
    cells = []
    for name, value in row.items():
        if not _is_validation(name):
            continue
        shown = f"{figure(100 * value)} cm" if name.endswith("_m") else figure(value)
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
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>"
        f'<p class="muted">{escape(mode)}, {done} of {options.loop.steps} steps, batches of '
        f"{options.loop.batch_size} clips, seed {options.run.seed}, {escape(_data(options))}</p>"
        f'<h2>Verdict</h2><ul class="verdict">{verdict or "<li>No validation yet.</li>"}</ul>'
        f'<h2>Curves</h2><div class="charts">{_charts(rows)}</div>'
        f"<h2>Last validation</h2><table>{_figure_rows(_last_validation(rows))}</table>"
        "<details><summary>Options (changed ones in green)</summary>"
        f"<table>{_option_rows(options)}</table></details></body></html>\n"
    )


def write_report(out: Path, options: AnyOptions, findings: Callable[[Row], list[Finding]]) -> Path:
    """Write training.html from the run's metrics and return its path."""
    rows = read_rows(out / "metrics.jsonl")
    path = out / FILE
    write_text(path, page(rows, options, findings(_last_validation(rows))))
    return path
