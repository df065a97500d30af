"""Write episodes as recordings for Rerun's viewer, one file an episode (extra `rerun`).

| entity | content at each step |
|---|---|
| `camera`, `goal` | image of the camera, and the goal image in force |
| `camera/paths` | candidate paths of the fingertips over the image, the chosen one first |
| `imagined_end` | picture of what the planner expects at the end of the chosen skills |
| `energy/now`, `energy/imagined` | energy of the frame, and of the imagined end |
| `action` | executed action: x, y, z [m], roll, pitch, yaw [rad], gripper |
| `table/objects`, `table/goals`, `table/path` | decoded positions and the chosen path [m] |
| `decision` | what was decided, as text |

`outcome` holds task, seed and result. Shapes: N points.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planning.atomic_write import write_bytes
from planning.errors import PlanError
from planning.report.camera import project
from planning.report.views import PATHS, outcome, skill_facts, skill_title
from planning.rollout import Episode
from planning.skill_record import Candidate, SkillRecord

ACTION = ("x [m]", "y [m]", "z [m]", "roll [rad]", "pitch [rad]", "yaw [rad]", "gripper")
CHOSEN, OTHER, GOAL = (255, 140, 0), (120, 120, 120), (0, 160, 80)
"""Colours, RGB."""
JPEG_QUALITY = 92


def require_rerun() -> None:
    """Check that Rerun's SDK is installed, before any work is done.

    Raises:
        PlanError: It is not; the message has the `pip install` line.
    """
    if importlib.util.find_spec("rerun") is None:
        raise PlanError("rerun=true needs Rerun's SDK: pip install 'worldmodel[rerun]'")


def write_recordings(folder: Path, episodes: Sequence[Episode]) -> list[Path]:
    """Write `NUMBER-seed-SEED.rrd` of each episode; return the files.

    Args:
        folder: Output folder, created if missing.
        episodes: Episodes; without kept frames a recording has no images.
    """
    paths = []
    for number, episode in enumerate(episodes):
        path = folder / f"{number:04d}-seed-{episode.seed}.rrd"
        write_bytes(path, _recorded(episode, f"{path.stem} {episode.task}"))
        paths.append(path)
    return paths


def _recorded(episode: Episode, name: str) -> bytes:
    """Return the content of a recording."""
    import rerun

    stream = rerun.RecordingStream("worldmodel", recording_id=name)
    memory = stream.memory_recording()
    stream.log("action", rerun.SeriesLines(names=list(ACTION)), static=True)
    result = f"{episode.task}, seed {episode.seed}: {outcome(episode)}"
    stream.log("outcome", rerun.TextDocument(result), static=True)
    decided = {record.step: i for i, record in enumerate(episode.decisions)}
    for step in range(max(len(episode.frames), len(episode.actions))):
        stream.set_time("step", sequence=step)
        _log_step(rerun, stream, episode, step)
        if step in decided:
            _log_decision(rerun, stream, episode, decided[step])
    return bytes(memory.drain_as_bytes())


def _image(rerun: Any, picture: NDArray[np.uint8]) -> Any:
    return rerun.Image(np.ascontiguousarray(picture)).compress(jpeg_quality=JPEG_QUALITY)


def _log_step(rerun: Any, stream: Any, episode: Episode, step: int) -> None:
    if step < len(episode.frames):
        stream.log("camera", _image(rerun, episode.frames[step]))
    if step < len(episode.sub_goals):
        goal = episode.sub_goals[step]
        if not step or episode.sub_goals[step - 1] != goal:
            stream.log("goal", _image(rerun, episode.goals[goal].image))
    if step < len(episode.energies):
        stream.log("energy/now", rerun.Scalars(episode.energies[step]))
    if step < len(episode.actions):
        stream.log("action", rerun.Scalars(episode.actions[step]))


def _log_decision(rerun: Any, stream: Any, episode: Episode, index: int) -> None:
    record = episode.decisions[index]
    text = ". ".join([skill_title(record), *skill_facts(record)])
    stream.log("decision", rerun.TextLog(text))
    for name, poses, colour in (("objects", record.objects, CHOSEN), ("goals", record.goals, GOAL)):
        places_N3 = [pose[:3] for pose in poses]
        stream.log(f"table/{name}", rerun.Points3D(places_N3, colors=colour, radii=0.01))
    paths = _paths(record)
    strips = [paths[0].path_m] if record.chosen is not None and paths else []
    stream.log("table/path", rerun.LineStrips3D(strips, colors=CHOSEN))
    if record.chosen is not None and np.isfinite(record.chosen.energy):
        stream.log("energy/imagined", rerun.Scalars(record.chosen.energy))
    picture = episode.imagined[index] if index < len(episode.imagined) else None
    if picture is not None:
        stream.log("imagined_end", _image(rerun, picture))
    if episode.camera_34 is not None and record.step < len(episode.frames):
        height, width = episode.frames[record.step].shape[:2]
        lines = [_line(episode.camera_34, part, width, height) for part in paths]
        colours = [CHOSEN if record.chosen is not None and not i else OTHER for i in range(PATHS)]
        drawn = rerun.LineStrips2D(lines, colors=colours[: len(lines)])
        stream.log("camera/paths", drawn)


def _paths(record: SkillRecord) -> list[Candidate]:
    """Return the candidates with a path, the chosen one first."""
    chosen = [record.chosen] if record.chosen is not None else []
    others = [c for c in record.candidates if c not in chosen]
    return [c for c in (*chosen, *others) if c.path_m][:PATHS]


def _line(
    camera_34: NDArray[np.float64], candidate: Candidate, width: int, height: int
) -> NDArray[np.float64]:
    """Return a path in pixels [N, 2]."""
    places_N3 = np.asarray(candidate.path_m, dtype=np.float64)
    at_N2 = project(camera_34, places_N3) * (width, height)
    return np.asarray(at_N2[np.isfinite(at_N2).all(1)])
