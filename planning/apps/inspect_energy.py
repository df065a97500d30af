"""Energy landscape between two frames: input, computation and plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from planning.apps.npz_file import read_npz
from planning.apps.policies import require_one_view
from planning.errors import PlanError
from planning.goals import read_goals
from planning.pictures import read_image
from planning.states import check_state
from worldmodel.atomic_io import atomic_file
from worldmodel.errors import DataError
from worldmodel.evaluation.energy_grid import EnergyGrid, energy_grid
from worldmodel.models.world_model import WorldModel

Frames = tuple[Tensor, Tensor]
"""Current and goal image, uint8 [H, W, 3], each of any size."""


def landscape(
    model: WorldModel,
    frames: Frames,
    flange_states_2S: Tensor,
    *,
    num_points: int,
    size_m: float,
    batch_size: int,
) -> EnergyGrid:
    """Compute the energies between two images, pre-processed as in training.

    Args:
        model: The world model.
        frames: Present and goal image.
        flange_states_2S: Robot states at both images, in the flange frame.
        num_points: Number of grid points per axis, odd.
        size_m: Maximum move along an axis [m].
        batch_size: Number of actions per batch.
    """
    require_one_view(model, "the energy landscape is of one image")
    states_2S = flange_states_2S.float()
    if model.observation_spec.state_frame != "flange":
        states_2S = model.convert_state(states_2S, "flange")
    return energy_grid(
        model,
        torch.stack([model.preprocess(frame_HWC) for frame_HWC in frames]),
        states_2S,
        num_points=num_points,
        size_m=size_m,
        batch_size=batch_size,
    )


def read_trajectory(path: str, first: int, last: int) -> tuple[Frames, Tensor]:
    """Read two frames and their states [2, 7] from an npz file.

    Raises:
        DataError: The file, its arrays or the frames do not exist.
    """
    try:
        arrays = read_npz(Path(path))
        frames, states = arrays["observations"], arrays["states"]
    except (PlanError, KeyError) as error:
        raise DataError(
            f"{path!r} is not a trajectory ({error}). Give an npz file with observations "
            "and states."
        ) from error
    if frames.ndim < 4 or states.ndim < 2 or states.shape[-1] != 7:
        raise DataError(
            f"{path}: observations {frames.shape} and states {states.shape} do not fit. Allowed: "
            "uint8 [..., T, H, W, 3] and [..., T, 7]."
        )
    if frames.dtype != np.uint8 or states.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: observations are {frames.dtype}, states {states.dtype}. Allowed: uint8, 0 to "
            "255, and real numbers."
        )
    frames, states = frames.reshape(-1, *frames.shape[-3:]), states.reshape(-1, 7)
    count = min(len(frames), len(states))
    if not (0 <= first < count and 0 <= last < count):
        raise DataError(
            f"{path} has no frames first={first} and last={last}. Allowed: 0 to {count - 1}."
        )
    for i in (first, last):
        check_state(states[i], f"{path}: state {i}")
    now, goal = (torch.from_numpy(frames[i]) for i in (first, last))
    return (now, goal), torch.from_numpy(states[[first, last]])


def read_pictures(image: str, goal: str, states: Sequence[float]) -> tuple[Frames, Tensor]:
    """Read two images; return them and their states [2, 7].

    Args:
        image: Image of the current scene.
        goal: Image of the goal.
        states: States at both, 14 numbers; empty for those that `capture-goal` wrote beside them.

    Raises:
        PlanError: An image cannot be read.
        DataError: `states` does not hold 14 numbers, or is empty and an image has no state.
    """
    if not states:
        found = [_known_state(path) for path in (image, goal)]
        states = [float(value) for state in found for value in state]
    if len(states) != 14:
        raise DataError(f"states has {len(states)} numbers. Give 14, 7 for each image.")
    check_state(states[:7], "states[0:7]")
    check_state(states[7:], "states[7:14]")
    return (_picture(image), _picture(goal)), torch.tensor(states).view(2, 7)


def _known_state(path: str) -> NDArray[np.float32]:
    """Return the state [7] in the JSON file of an image of `capture-goal`."""
    (goal,) = read_goals(path, [])
    if np.isnan(goal.state).any():
        raise DataError(
            f"{path} has no state beside it, as `worldmodel capture-goal` writes it. Give "
            "states=[14 numbers], 7 for each image."
        )
    return goal.state


def _picture(path: str) -> Tensor:
    return torch.from_numpy(read_image(Path(path)))


def draw(found: EnergyGrid, path: Path) -> None:
    """Plot three planes side by side, with the true action and each plane's lowest energy."""
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
    with atomic_file(path) as part:
        figure.savefig(part, dpi=110, format="png")
