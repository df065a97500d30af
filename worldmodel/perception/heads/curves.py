"""Draw the training loss of every head of a grid, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from worldmodel.atomic_io import atomic_file
from worldmodel.perception.heads.grid import HeadSettings

LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
"""Lines of the weight decays, from the smallest."""
LOG_RATIO = 10
"""Ratio of largest to smallest loss above which the axis is logarithmic."""


def draw_curves(
    path: Path, rows: Sequence[Mapping[str, Any]], settings: Sequence[HeadSettings]
) -> None:
    """Write a picture of the learning curves, with the head that ends lowest marked.

    Heads of one learning rate have one colour, and each weight decay its own line.

    Args:
        path: PNG file to write.
        rows: `epoch` and `loss` of each head, as in curves.json.
        settings: Settings of the heads, which the legend names.
    """
    last = [loss if math.isfinite(loss) else math.inf for loss in rows[-1]["loss"]]
    lowest = last.index(min(last))
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.add_subplot()
    rates = sorted({head.lr for head in settings})
    decays = sorted({head.weight_decay for head in settings})
    for number, head in enumerate(settings):
        (line,) = panel.plot(
            [row["epoch"] for row in rows],
            [row["loss"][number] for row in rows],
            marker=".",
            color=f"C{rates.index(head.lr) % 10}",
            linestyle=LINES[decays.index(head.weight_decay) % len(LINES)],
            label=f"{head.lr:g}, {head.weight_decay:g}",
        )
        if number == lowest:
            line.set(linewidth=3.5, zorder=3)
    panel.set(xlabel="epoch", ylabel="training loss, mean over the epoch")
    losses = [loss for row in rows for loss in row["loss"] if math.isfinite(loss)]
    if losses and max(losses) > LOG_RATIO * min(losses) > 0:
        panel.set_yscale("log")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.legend(
        title="learning rate, weight decay",
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        fontsize="small",
    )
    with atomic_file(path) as part:
        figure.savefig(part, dpi=100, format="png")
