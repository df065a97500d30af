"""Surprise of a world model at simulated events and in recorded episodes: data, figures, picture.

Shapes: E episodes, T frames, K = T - 1 steps.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from envs.events import STEPS_IN_WALL, Event, EventEpisode, EventPlayer
from planning.apps.policies import require_one_view
from planning.skills.play import random_skill
from worldmodel.atomic_io import atomic_file
from worldmodel.data.memory import MemoryClips
from worldmodel.evaluation.rollout_clips import encode_all
from worldmodel.evaluation.step_surprise import Separation, separation, step_errors
from worldmodel.models.world_model import WorldModel

AROUND = 6
"""Steps before and after an event in the picture."""
SHOWN = (-1, 0, 1, 2)
"""Frames in the picture, relative to the first frame of the event."""


@dataclass(frozen=True, kw_only=True)
class EventErrors:
    """Errors of the same episodes with and without an event."""

    event: Event
    plain_EK: Tensor
    """Errors without the event."""
    event_EK: Tensor
    """Errors with it."""
    steps_E: Tensor
    """Step that leads to the first frame of the event."""
    frames_FHWC: NDArray[np.uint8]
    """Frames of the first episode at `SHOWN`."""

    @property
    def width(self) -> int:
        """Number of steps of the event."""
        return STEPS_IN_WALL if self.event == "through_wall" else 1

    def figures(self) -> Separation:
        """Return how well the errors separate the episodes."""
        return separation(self.plain_EK, self.event_EK, self.steps_E, self.width)


def open_player(
    world: WorldModel, *, shapes: tuple[str, ...], split: str, length: int
) -> EventPlayer:
    """Open the simulation with the model's camera and image size.

    Raises:
        PlanError: The model sees several cameras.
    """
    require_one_view(world, "the events are rendered by one: give data=FOLDER of recordings")
    return EventPlayer(
        shapes=shapes,
        camera=world.observation_spec.cameras[0],
        image_size=world.image_size[0],
        split=split,
        length=length,
        skill=random_skill,
    )


def event_errors(
    world: WorldModel, player: EventPlayer, event: Event, seeds: range, context: int
) -> EventErrors:
    """Play the episodes of all seeds without and with an event, and measure the errors."""
    walled = event == "through_wall"
    plain, changed = [], []
    for seed in tqdm(seeds, desc=event, unit="episode"):
        plain.append(player.play(seed, "none", walled=walled))
        changed.append(player.play(seed, event, walled=walled))
    first = changed[0]
    return EventErrors(
        event=event,
        plain_EK=_errors(world, plain, context),
        event_EK=_errors(world, changed, context),
        steps_E=torch.tensor([episode.event_frame - 1 for episode in changed]),
        frames_FHWC=np.stack([first.frames_THWC[first.event_frame + k] for k in SHOWN]),
    )


def _errors(world: WorldModel, episodes: list[EventEpisode], context: int) -> Tensor:
    frames_ETHWC = np.stack([episode.frames_THWC for episode in episodes])
    shown = world.preprocess(torch.from_numpy(frames_ETHWC.reshape(-1, *frames_ETHWC.shape[2:])))
    z_ETND = encode_all(world, shown.numpy()).unflatten(0, frames_ETHWC.shape[:2])
    states = torch.from_numpy(np.stack([episode.states_TS for episode in episodes]))
    if world.observation_spec.state_frame != "flange":
        states = world.convert_state(states, "flange")
    actions = torch.from_numpy(np.stack([episode.actions_KA for episode in episodes]))
    return step_errors(world, z_ETND, states, actions, context)


def recorded_errors(world: WorldModel, clips: MemoryClips, context: int) -> list[list[float]]:
    """Return the error of every step of each recorded episode."""
    found = []
    arrays = clips.arrays
    for first, end in itertools.pairwise(clips.starts.tolist()):
        if end - first < 2:
            continue
        z_TND = encode_all(world, arrays["frames"][first:end])
        states = torch.from_numpy(np.array(arrays["states"][first:end]))
        actions = torch.from_numpy(np.array(arrays["actions"][first : end - 1]))
        errors_1K = step_errors(world, z_TND[None], states[None], actions[None], context)
        found.append(errors_1K[0].tolist())
    return found


def as_dict(found: EventErrors) -> dict[str, object]:
    """Return the figures and the errors of an event for summary.json."""
    return {
        **asdict(found.figures()),
        "steps": found.steps_E.tolist(),
        "errors_without": found.plain_EK.tolist(),
        "errors_with": found.event_EK.tolist(),
    }


def draw(rows: list[EventErrors], path: Path) -> None:
    """Draw for each event the frames of one episode and the mean error around the event."""
    figure = Figure(figsize=(12, 2.6 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(rows), len(SHOWN) + 3)
    for row, found in enumerate(rows):
        for column, (frame, k) in enumerate(zip(found.frames_FHWC, SHOWN, strict=True)):
            panel = figure.add_subplot(grid[row, column])
            panel.imshow(frame)
            panel.set(xticks=[], yticks=[], xlabel=f"frame {k:+d}" if k else "event")
            if not column:
                panel.set_ylabel(found.event.replace("_", " "))
        panel = figure.add_subplot(grid[row, len(SHOWN) :])
        _draw_curves(panel, found)
    with atomic_file(path) as part:
        figure.savefig(part, dpi=100, format="png")


def _draw_curves(panel: Any, found: EventErrors) -> None:
    """Draw mean and quartiles of the errors around the event."""
    offsets = torch.arange(-AROUND, AROUND + 1)
    at_EO = found.steps_E[:, None] + offsets
    inside_EO = (at_EO >= 0) & (at_EO < found.plain_EK.shape[1])
    for errors_EK, name, colour in (
        (found.plain_EK, "without", "#0b62a4"),
        (found.event_EK, "with the event", "#c4500c"),
    ):
        values_EO = errors_EK.gather(1, at_EO.clamp(0, errors_EK.shape[1] - 1))
        values_EO = values_EO.masked_fill(~inside_EO, float("nan"))
        low, middle, high = values_EO.nanquantile(torch.tensor([0.25, 0.5, 0.75]), dim=0)
        panel.plot(offsets, middle, ".-", color=colour, label=name)
        panel.fill_between(offsets, low, high, color=colour, alpha=0.2)
    panel.set(xlabel="step from the event", ylabel="error")
    panel.legend(loc="upper left")
