"""Energy over a grid of actions between two frames: input, computation and drawing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from worldmodel.checkpoint import load_world_model
from worldmodel.errors import DataError
from worldmodel.evaluation.energy_grid import EnergyGrid
from worldmodel.models.world_model import WorldModel


def open_model(name: str, device: str) -> WorldModel:
    """Load a world model.

    Raises:
        CheckpointError: the file holds no action-conditioned predictor.
    """
    return load_world_model(name, device)


def read_trajectory(path: str, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Read two frames uint8 [2, H, W, 3] and their states [2, 7] from an npz file.

    Raises:
        DataError: the file, its arrays or the frames do not exist.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            frames, states = file["observations"], file["states"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(
            f"{path!r} is not a trajectory ({error}). Give an npz file with observations "
            "and states."
        ) from error
    if frames.ndim < 4 or states.ndim < 2 or states.shape[-1] != 7:
        raise DataError(
            f"{path}: observations {frames.shape} and states {states.shape} do not fit. Allowed: "
            "uint8 [..., T, H, W, 3] and [..., T, 7]."
        )
    frames, states = frames.reshape(-1, *frames.shape[-3:]), states.reshape(-1, 7)
    count = min(len(frames), len(states))
    if not (0 <= first < count and 0 <= last < count):
        raise DataError(f"{path} has frames 0..{count - 1}; first={first}, last={last}")
    chosen = [first, last]
    return torch.from_numpy(frames[chosen]), torch.from_numpy(states[chosen])


def read_pictures(image: str, goal: str, states: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Read two pictures of equal size, uint8 [2, H, W, 3]; returns them and their states [2, 7].

    Raises:
        DataError: a picture cannot be read, the sizes differ, or there are not 14 numbers.
    """
    try:
        frames = [np.array(Image.open(path).convert("RGB")) for path in (image, goal)]
    except (OSError, ValueError) as error:
        raise DataError(
            f"{image!r} or {goal!r} cannot be read as a picture ({error}). Give image= and goal=."
        ) from error
    if frames[0].shape != frames[1].shape or len(states) != 14:
        raise DataError(
            f"Pictures {frames[0].shape} and {frames[1].shape} with {len(states)} numbers of state "
            "do not fit. Give two pictures of one size and states=[...] with 14 numbers."
        )
    return torch.from_numpy(np.stack(frames)), torch.tensor(states).view(2, 7)


def draw(found: EnergyGrid, path: Path) -> None:
    """Draw three planes side by side, with the true action and each plane's lowest energy."""
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    values_cm, true_cm = 100 * found.values_m, 100 * found.true_action
    edge = float(values_cm[-1] + (values_cm[1] - values_cm[0]) / 2)
    limit = max(edge, 1.1 * float(true_cm[:3].abs().max()))
    for i, (name, plane) in enumerate(found.planes.items()):
        first, second = ("xyz".index(axis) for axis in name)
        row, column = divmod(int(plane.argmin()), plane.shape[1])
        panel = figure.add_subplot(1, 3, i + 1)
        shown = panel.imshow(plane.numpy(), origin="lower", extent=(-edge, edge, -edge, edge))
        panel.plot(true_cm[second], true_cm[first], "r*", ms=14, label="true action")
        panel.plot(values_cm[column], values_cm[row], "wX", mec="k", ms=10, label="lowest energy")
        panel.set(xlabel=f"d{name[1]} [cm]", ylabel=f"d{name[0]} [cm]", title=f"{name} plane")
        panel.set(xlim=(-limit, limit), ylim=(-limit, limit), facecolor="0.9")
        figure.colorbar(shown, ax=panel, label="energy")
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, facecolor="0.8")
    figure.savefig(path, dpi=110)
