"""`worldmodel inspect surprise`: errors of a world model's predictions at impossible events."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from envs.config import Shape, Split
from planning.errors import PlanError
from planning.options import Device, Precision
from planning.ranges import between, check_fields

if TYPE_CHECKING:
    from worldmodel.models.world_model import WorldModel

SHORTEST = 16
"""Frames of the shortest episode: a few on both sides of the longest event."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `worldmodel inspect surprise`."""

    model: str = "default"
    """World model: an embedded or published name, or a file."""
    events: list[Literal["colour", "teleport", "vanish", "through_wall"]] = field(
        default_factory=lambda: ["teleport", "vanish", "through_wall", "colour"]
    )
    """Events in simulation: the object appears elsewhere, disappears, or passes through a wall; a
    change of colour is harmless."""
    episodes: int = field(default=50, metadata=between(2, 100_000))
    """Number of episodes of each event; each is played with and without it."""
    length: int = field(default=24, metadata=between(SHORTEST, 1000, "frames"))
    """Number of frames of an episode, at 4 Hz."""
    seed: int = field(default=9_000_000, metadata=between(0, 2**31 - 1))
    """Seed of the first episode; episode i uses seed + i."""
    objects: list[Shape] = field(default_factory=lambda: ["cube", "box", "cup"])
    """Object shapes, of which each scene draws one."""
    split: Split = "train"
    """Appearance distribution; held_out uses colours and textures unseen in training."""
    data: str = ""
    """Folder of recorded episodes, such as those of a drive, to measure instead of simulated
    events."""
    context: int = field(default=4, metadata=between(1, 16, "frames"))
    """Number of frames that a prediction sees."""
    device: Device = "auto"
    """Device of the model."""
    precision: Precision = "auto"
    """Data type of the weights (auto: bfloat16 on CUDA devices that have it, else float32)."""
    links: Literal["inside", "all"] = "inside"
    """Whether links in data must stay inside the data set, or may lead anywhere (all, for your own
    links)."""
    rlds_fps: float = field(default=15.0, metadata=between(0.1, 1000, "Hz"))
    """Control rate of an RLDS data set, which stores no timestamps; DROID's is 15 Hz."""
    cache: str = ""
    """Folder for decoded frames of data (empty: the default cache folder)."""
    out: str = "runs/surprise_events"
    """Output folder for events.png and summary.json."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.objects or not self.events:
            raise PlanError("objects= and events= need at least one name each")
        if self.cache and not self.data:
            raise PlanError("cache= has no effect without data=: leave it out")


def run(options: Options) -> int:
    """Measure, print and write the errors."""
    from planning.apps.own_encoder import open_world

    world = open_world(options.model, options.device, options.precision)
    return _recorded(world, options) if options.data else _simulated(world, options)


def _simulated(world: WorldModel, options: Options) -> int:
    from planning.apps.inspect_surprise import as_dict, draw, event_errors, open_player
    from worldmodel.atomic_io import write_json

    player = open_player(
        world, shapes=tuple(options.objects), split=options.split, length=options.length
    )
    seeds = range(options.seed, options.seed + options.episodes)
    rows = [event_errors(world, player, e, seeds, options.context) for e in options.events]
    player.close()
    print("event          AUROC   95 % interval   error ratio   largest at the event")
    for row in rows:
        f = row.figures()
        interval = f"{f.low:.2f} to {f.high:.2f}"
        found = f"{f.found_at}/{f.episodes}"
        print(f"{row.event:13s}{f.auroc:7.2f}{interval:>16s}{f.ratio:14.2f}{found:>23s}")
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    draw(rows, out / "events.png")
    summary = {"events": {row.event: as_dict(row) for row in rows}, "options": asdict(options)}
    write_json(out / "summary.json", summary)
    print(out / "events.png")
    return 0


def _recorded(world: WorldModel, options: Options) -> int:
    from planning.apps.inspect_surprise import recorded_errors
    from worldmodel.atomic_io import write_json
    from worldmodel.data.memory import open_clips_for

    clips = open_clips_for(
        world.observation_spec,
        world.action_spec,
        options.data,
        2,
        links=options.links,
        rlds_fps=options.rlds_fps,
        cache=options.cache,
    )
    episodes = recorded_errors(world, clips, options.context)
    for number, errors in enumerate(episodes):
        step = max(range(len(errors)), key=errors.__getitem__)
        middle = sorted(errors)[len(errors) // 2]
        print(f"episode {number}: median {middle:.4f}, largest {errors[step]:.4f} at step {step}")
    file = Path(options.out) / "summary.json"
    write_json(file, {"episodes": episodes, "options": asdict(options)})
    print(file)
    return 0
