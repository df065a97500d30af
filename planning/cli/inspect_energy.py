"""`worldmodel inspect energy`: the energy landscape over a grid of actions between two frames."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from worldmodel.checkpoints.io import load_any
from worldmodel.data.transforms import Preprocess
from worldmodel.errors import ConfigError, DataError
from worldmodel.evaluation.energy_grid import EnergyGrid, energy_grid
from worldmodel.models.world_model import WorldModel


def _text(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class Options:
    """Options of `worldmodel inspect energy`."""

    trajectory: str = _text("", "npz with observations [.., T, H, W, 3] and states [.., T, 7]")
    image: str = _text("", "or: picture of now")
    goal: str = _text("", "and picture of next")
    states: list[float] = field(
        default_factory=list, metadata={"help": "with pictures: both states, 14 numbers"}
    )
    first: int = _text(0, "frame of the trajectory that is now")
    last: int = _text(1, "frame of the trajectory that is the goal")
    model: str = _text("default", "action-conditioned: embedded or published name, or file")
    transform: str = _text("droid", "published, droid or squeeze")
    grid: int = _text(9, "grid points an axis, odd")
    size_m: float = _text(0.075, "largest move along an axis [m]")
    batch_size: int = _text(32, "actions imagined at once")
    device: str = _text("auto", "auto, cpu or cuda")
    out: str = _text("runs/energy", "folder of energy.png and summary.json")


def read_trajectory(path: str, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Two frames uint8 [2, H, W, 3] and two states [2, 7] of an npz file.

    Raises:
        DataError: no such file, arrays or frames.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            frames, states = file["observations"], file["states"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(
            f"{path!r} is no trajectory ({error}): wanted an npz with observations and states"
        ) from error
    if frames.ndim < 4 or states.ndim < 2 or states.shape[-1] != 7:
        raise DataError(f"{path}: observations {frames.shape}, states {states.shape}: see --help")
    frames, states = frames.reshape(-1, *frames.shape[-3:]), states.reshape(-1, 7)
    count = min(len(frames), len(states))
    if not (0 <= first < count and 0 <= last < count):
        raise DataError(f"{path} has frames 0..{count - 1}; first={first}, last={last}")
    chosen = [first, last]
    return torch.from_numpy(frames[chosen]), torch.from_numpy(states[chosen])


def read_pictures(options: Options) -> tuple[Tensor, Tensor]:
    """Two pictures of equal size and their states.

    Raises:
        DataError: unreadable, of two sizes, or not 14 numbers.
    """
    try:
        frames = [np.array(Image.open(p).convert("RGB")) for p in (options.image, options.goal)]
    except (OSError, ValueError) as error:
        raise DataError(
            f"no picture ({error}): give trajectory=NPZ, or image= and goal="
        ) from error
    if frames[0].shape != frames[1].shape or len(options.states) != 14:
        raise DataError(
            f"pictures {frames[0].shape} and {frames[1].shape} with {len(options.states)} numbers "
            "of state: wanted two of one size and states=[...] with 14"
        )
    return torch.from_numpy(np.stack(frames)), torch.tensor(options.states).view(2, 7)


def draw(found: EnergyGrid, path: Path) -> None:
    """Three planes side by side; the true action and each plane's lowest energy are marked."""
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


def run(options: Options) -> int:
    """Compute, draw and write the landscape."""
    model = load_any(options.model, options.device)
    if not isinstance(model, WorldModel):
        raise ConfigError(
            f"model={options.model!r} has no action-conditioned predictor: take vjepa2-ac-vitg, "
            "or the embedded 'default'"
        )
    if options.trajectory:
        frames, states = read_trajectory(options.trajectory, options.first, options.last)
    else:
        frames, states = read_pictures(options)
    fitted = Preprocess(options.transform, model.image_size)(frames)  # type: ignore[arg-type]
    found = energy_grid(
        model,
        fitted,
        states,
        num_points=options.grid,
        size_m=options.size_m,
        batch_size=options.batch_size,
    )
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    draw(found, out / "energy.png")
    summary = {
        "values_m": found.values_m.tolist(),
        "planes": {name: plane.tolist() for name, plane in found.planes.items()},
        "true_action": found.true_action.tolist(),
        "true_energy": found.true_energy,
        "best_action": found.best_action.tolist(),
        "best_energy": found.best_energy,
        "still_energy": found.still_energy,
        "options": asdict(options),
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=2), encoding="utf-8")
    moved = ", ".join(f"{100 * x:+.1f}" for x in found.true_action[:3].tolist())
    lowest = ", ".join(f"{100 * x:+.1f}" for x in found.best_action[:3].tolist())
    print(f"true move [cm]    {moved}   energy {found.true_energy:.4f}")
    print(f"lowest energy at  {lowest}   energy {found.best_energy:.4f}")
    print(f"no move                              energy {found.still_energy:.4f}")
    print(out / "energy.png")
    return 0
