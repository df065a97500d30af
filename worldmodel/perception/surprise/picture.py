"""Draw a pair of videos: frames above, the surprise of each window below."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from worldmodel.atomic_io import atomic_file

NUM_FRAMES = 8
"""Frames of each video in the picture."""


def draw_pair(
    path: Path,
    videos: tuple[Tensor, Tensor],
    curves: tuple[Tensor, Tensor],
    window: tuple[int, int],
    title: str,
) -> None:
    """Write a picture file.

    Args:
        path: Picture file to write.
        videos: Possible and impossible video, uint8 [T, H, W, 3].
        curves: Surprise of their windows.
        window: Frames of a window, and frames from one window to the next.
        title: Title of the picture.
    """
    figure = Figure(figsize=(11, 6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    grid = figure.add_gridspec(3, NUM_FRAMES, height_ratios=(1, 1, 2))
    for row, (video, name) in enumerate(zip(videos, ("possible", "impossible"), strict=True)):
        for column in range(NUM_FRAMES):
            number = column * (len(video) - 1) // (NUM_FRAMES - 1)
            panel = figure.add_subplot(grid[row, column])
            panel.imshow(video[number].numpy())
            panel.set(xticks=[], yticks=[], xlabel=f"frame {number}")
            if not column:
                panel.set_ylabel(name)
    panel = figure.add_subplot(grid[2, :])
    for curve, name, colour in zip(
        curves, ("possible", "impossible"), ("#0b62a4", "#c4500c"), strict=True
    ):
        last = [window[0] - 1 + window[1] * i for i in range(len(curve))]
        panel.plot(last, curve.numpy(), ".-", color=colour, label=name)
    panel.set(xlabel="last frame of the window", ylabel="surprise", xlim=(0, len(videos[0]) - 1))
    panel.legend()
    with atomic_file(path) as part:
        figure.savefig(part, dpi=100, format="png")
