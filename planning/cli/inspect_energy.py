"""`worldmodel inspect energy`: draw the energy over a grid of actions between two frames."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from planning.errors import PlanError
from planning.options import Device, Precision
from planning.ranges import between, check_fields


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `worldmodel inspect energy`."""

    trajectory: str = ""
    """File .npz with observations uint8 [..., T, H, W, 3] and states [..., T, 7]."""
    first: int = field(default=0, metadata=between(0, 10_000_000))
    """Index of the current frame in the trajectory."""
    last: int = field(default=1, metadata=between(0, 10_000_000))
    """Index of the goal frame in the trajectory."""
    image: str = ""
    """Image file of the current scene, of any size, instead of a trajectory."""
    goal: str = ""
    """Image file of the goal, of any size, instead of a trajectory."""
    states: list[float] = field(default_factory=list, metadata=between(-10, 10, "m or rad"))
    """Robot states at both images, 2 x 7 numbers: flange x y z [m], Euler angles [rad], gripper
    (empty: those that `capture-goal` wrote beside them)."""
    model: str = "default"
    """World model: an embedded or published name, or a file."""
    grid: int = field(default=9, metadata=between(3, 101, "points"))
    """Number of grid points per axis; odd, so that the grid contains "no move"."""
    size_m: float = field(default=0.075, metadata=between(0.0001, 1, "m"))
    """Maximum move along an axis."""
    batch_size: int = field(default=32, metadata=between(1, 100_000))
    """Number of actions per batch."""
    device: Device = "auto"
    """Device of the model."""
    precision: Precision = "auto"
    """Data type of the weights (auto: bfloat16 on CUDA devices that have it, else float32)."""
    out: str = "runs/energy"
    """Output folder for energy.png and summary.json."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.grid % 2 == 0:
            raise PlanError(f"grid={self.grid} is even. Allowed: odd numbers from 3 to 101.")
        pictures = bool(self.image or self.goal or self.states)
        if bool(self.trajectory) == pictures:
            raise PlanError(
                "Give either trajectory=FILE.npz, or image=FILE goal=FILE states=[14 numbers]. "
                "Images of `capture-goal` need no states."
            )
        if pictures and (self.first, self.last) != (0, 1):
            raise PlanError(
                f"first={self.first} last={self.last} have no effect with images. Leave them out."
            )


def run(options: Options) -> int:
    """Compute, plot and write the energies."""
    from planning.apps.inspect_energy import draw, landscape, read_pictures, read_trajectory
    from planning.apps.own_encoder import open_world
    from worldmodel.atomic_io import write_json

    model = open_world(options.model, options.device, options.precision)
    if options.trajectory:
        frames, states = read_trajectory(options.trajectory, options.first, options.last)
    else:
        frames, states = read_pictures(options.image, options.goal, options.states)
    found = landscape(
        model,
        frames,
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
    write_json(out / "summary.json", summary)
    moved = ", ".join(f"{100 * x:+.1f}" for x in found.true_action[:3].tolist())
    lowest = ", ".join(f"{100 * x:+.1f}" for x in found.best_action[:3].tolist())
    print(f"true move [cm]    {moved}   energy {found.true_energy:.4f}")
    print(f"lowest energy at  {lowest}   energy {found.best_energy:.4f}")
    print(f"no move                              energy {found.still_energy:.4f}")
    print(out / "energy.png")
    return 0
