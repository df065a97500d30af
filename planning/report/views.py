"""What the report's templates show of each episode and decision, in the units of people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from planning.atomic_write import json_text
from planning.report.camera import project
from planning.report.plots import Plot, aimed, energy_map, energy_plot, parameter_text, short
from planning.report.video import data_uri, movie, picture_uri
from planning.rollout import Episode
from planning.skill_record import SkillRecord

PATHS = 5
"""Number of candidate paths drawn over the camera image."""
WHY = {
    "reached": "goes home: the decoded objects are at their goals",
    "no better plan": "goes home: no skill is imagined to end nearer the goal",
    "budget": "goes home: the step budget ends",
}


@dataclass(frozen=True, kw_only=True)
class DecisionView:
    """A decision about skills."""

    title: str
    facts: Sequence[str]
    camera: str
    """Image of the camera as a `data:` address; empty without kept frames."""
    paths: Sequence[str] = ()
    """Candidate paths as points in per cent of the image, the chosen one first."""
    arrow: Sequence[float] = ()
    """Decoded object now and in the goal image, x1 y1 x2 y2 in per cent of the image."""
    goal: str
    """Goal image as a `data:` address."""
    imagined: str = ""
    """Picture of the imagined end as a `data:` address; empty without one."""
    imagined_text: str = ""
    then: str = ""
    """Frame that shows what came of it as a `data:` address; empty without kept frames."""
    then_text: str = ""
    map: Plot | None = None


@dataclass(frozen=True, kw_only=True)
class EpisodeView:
    """An episode."""

    id: str
    """Address of the episode in the page."""
    seed: int
    task: str
    success: bool
    word: str
    """Outcome."""
    facts: str
    last: str
    """Last image of the camera as a `data:` address; empty without kept frames."""
    start: str
    goals: Sequence[tuple[str, str]]
    """Name and image of each goal."""
    film: str
    """Video as a `data:` address; empty without kept frames."""
    film_is_video: bool
    energy: Plot | None
    decisions: Sequence[DecisionView]
    others: Sequence[tuple[str, bool, str]]
    """Name, success and outcome of each baseline in the same scene."""
    raw: str
    """All numbers as JSON."""


def beside_goals(episode: Episode, *, imagined: bool = False) -> list[NDArray[np.uint8]]:
    """Return each frame beside its current sub-goal, [H, 2 W, 3].

    The last frame has no decision. It may be the only one, of an episode that ended at once.

    Args:
        episode: Episode with frames.
        imagined: Whether the imagined end of the decision in force is between the two, [H, 3 W, 3];
            it needs an episode with such pictures.
    """
    due = [*episode.sub_goals, *(episode.sub_goals or [0])[-1:]] if episode.goals else []
    pairs = zip(episode.frames, due, strict=False)
    rows = [[frame, episode.goals[index].image] for frame, index in pairs]
    if imagined:
        for step, row in enumerate(rows):
            row.insert(1, _imagined_at(episode, step))
    return [np.concatenate(row, axis=1) for row in rows]


def _imagined_at(episode: Episode, step: int) -> NDArray[np.uint8]:
    """Return the newest imagined end at a step in the size of a frame; black before the first."""
    height, width = episode.frames[0].shape[:2]
    decided = zip(episode.decisions, episode.imagined, strict=False)
    known = [picture for d, picture in decided if d.step <= step and picture is not None]
    if not known:
        return np.zeros((height, width, 3), np.uint8)
    return np.asarray(Image.fromarray(known[-1]).resize((width, height), Image.Resampling.BICUBIC))


def outcome(episode: Episode) -> str:
    """Return success, or failure with its reason."""
    return "success" if episode.success else f"failure: {episode.reason}"


def _points(camera_34: NDArray[np.float64], places_N3: Sequence[Sequence[float]]) -> str:
    at_N2 = 100 * project(camera_34, np.asarray(places_N3, dtype=np.float64).reshape(-1, 3))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in at_N2 if np.isfinite(x))


def _actions(count: int) -> str:
    return "1 action" if count == 1 else f"{count} actions"


def skill_title(record: SkillRecord) -> str:
    """Return the names of the chosen skills, or why the arm goes home."""
    if record.chosen is None:
        return WHY.get(record.why, record.why)
    return " then ".join(name.replace("_", " ") for name in record.chosen.skills)


def skill_facts(record: SkillRecord) -> list[str]:
    """Return parameters, energies and duration of a decision as texts."""
    facts = []
    for name, params in zip(*_chosen_parts(record), strict=True):
        numbers = ", ".join(parameter_text(k, v) for k, v in params.items())
        facts.append(f"{name.replace('_', ' ')}: {numbers}" if numbers else name)
    energies = {"now": record.energy_now, "going home": record.rest_energy}
    if record.chosen is not None:
        energies["imagined end"] = record.chosen.energy
    shown = [f"{name} {short(value)}" for name, value in energies.items() if np.isfinite(value)]
    facts.append(f"energy: {', '.join(shown)}")
    facts.append(f"{_actions(record.executed)} until the next look")
    facts.append(f"decided in {short(sum(record.seconds.values()), 2)} s")
    return facts


def _chosen_parts(record: SkillRecord) -> tuple[Sequence[str], Sequence[Mapping[str, float]]]:
    if record.chosen is None:
        return (), ()
    return record.chosen.skills, record.chosen.params


def decision_view(episode: Episode, index: int) -> DecisionView:
    """Return what is shown of a decision."""
    record, frames = episode.decisions[index], episode.frames
    title = f"{index + 1}. Step {record.step}: {skill_title(record)}"
    facts = skill_facts(record)
    due = episode.sub_goals[record.step] if record.step < len(episode.sub_goals) else -1
    goal = picture_uri(episode.goals[due].image)
    if record.step >= len(frames):
        return DecisionView(title=title, facts=facts, camera="", goal=goal, map=energy_map(record))
    paths, arrow = _drawn(episode, record)
    imagined = episode.imagined[index] if index < len(episode.imagined) else None
    then_step, then_text = _then(episode, index)
    return DecisionView(
        title=title,
        facts=facts,
        camera=picture_uri(frames[record.step]),
        paths=paths,
        arrow=arrow,
        goal=goal,
        imagined="" if imagined is None else picture_uri(imagined),
        imagined_text=episode.imagined_text,
        then=picture_uri(frames[then_step]),
        then_text=then_text,
        map=energy_map(record),
    )


def _drawn(episode: Episode, record: SkillRecord) -> tuple[list[str], list[float]]:
    """Return the candidate paths, the chosen one first, and the arrow of the decoded object."""
    if episode.camera_34 is None or record.chosen is None:
        return [], []
    best = [c.path_m for c in record.candidates if c.path_m and c != record.chosen]
    paths = [
        _points(episode.camera_34, path) for path in [record.chosen.path_m, *best[: PATHS - 1]]
    ]
    ends = aimed(record)
    if ends is None:
        return paths, []
    at_22 = 100 * project(episode.camera_34, np.array(ends))
    return paths, [round(float(v), 1) for v in at_22.ravel()] if np.isfinite(at_22).all() else []


def _then(episode: Episode, index: int) -> tuple[int, str]:
    """Return the step that shows what came of a decision: the next look, or the arm at home."""
    record, last = episode.decisions[index], len(episode.frames) - 1
    step = record.step + record.executed
    following = episode.decisions[index + 1 : index + 2]
    if following and following[0].chosen is None:
        step = following[0].step + following[0].executed
    step = min(step, last)
    return step, f"what then happened, {_actions(step - record.step)} later"


def episode_view(episode: Episode, others: Mapping[str, Episode]) -> EpisodeView:
    """Return what is shown of an episode, beside baselines in the same scene."""
    known = np.isfinite(episode.error_m)
    distance = f"final error {episode.error_m * 100:.1f} cm, " if known else ""
    seen = beside_goals(episode)
    kind, film = movie(seen) if seen else ("", b"")
    return EpisodeView(
        id="-".join(word for word in (episode.task, str(episode.seed)) if word),
        seed=episode.seed,
        task=episode.task.replace("_", " "),
        success=episode.success,
        word=outcome(episode),
        facts=f"{distance}{_actions(len(episode.actions))}",
        last=picture_uri(episode.frames[-1]) if episode.frames else "",
        start=picture_uri(episode.frames[0]) if episode.frames else "",
        goals=[(goal.name, picture_uri(goal.image)) for goal in episode.goals],
        film=data_uri(kind, film) if film else "",
        film_is_video=kind.startswith("video"),
        energy=energy_plot(episode),
        decisions=[decision_view(episode, i) for i in range(len(episode.decisions))],
        others=[
            (name.replace("_", " "), other.success, outcome(other))
            for name, other in others.items()
        ],
        raw=json_text(_without_candidates(episode.summary())),
    )


def _without_candidates(row: dict[str, object]) -> dict[str, object]:
    """Return a row without the many candidates, which `episodes.jsonl` holds."""
    decisions = row.get("decisions")
    if not isinstance(decisions, list):
        return row
    short_rows = [{k: v for k, v in d.items() if k != "candidates"} for d in decisions]
    return row | {"decisions": short_rows}
