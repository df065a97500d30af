"""Score anticipation probes on videos of EPIC-KITCHENS-100; every clip counts once.

Shapes: B clips, T frames, H W pixels, C classes.
"""

from __future__ import annotations

import dataclasses
import logging
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from worldmodel.data.transforms import Preprocess
from worldmodel.data.video import VideoFrames, inspect_video
from worldmodel.errors import DataError
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.masked_predictor import MaskedPredictor
from worldmodel.perception.anticipation import (
    TARGETS,
    AnticipationProbe,
    FutureConfig,
    Recall,
    Target,
    anticipation_tokens,
    class_mean_recall,
)
from worldmodel.perception.epic_kitchens import Action, ActionClasses, AnticipationClip
from worldmodel.perception.surprise import normalise_pixels

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Frozen networks and the probes that read their tokens."""

    encoder: VisionTransformer
    predictor: MaskedPredictor
    probes: Sequence[AnticipationProbe]
    future: FutureConfig = field(default_factory=FutureConfig)
    """Which tokens the probes read."""


@dataclass(frozen=True)
class AnticipationScores:
    """Scores of each probe, and the clips that could not be read."""

    recalls: list[dict[Target, Recall]]
    rejected: dict[str, str]
    """Video and frames of the action -> reason."""


def video_path(root: Path, video: str) -> Path:
    """Return the file of a video in one of the two published layouts.

    They are `P01/videos/P01_01.MP4` and `P01/P01_01.MP4`.

    Raises:
        DataError: Neither exists.
    """
    person = root / video.partition("_")[0]
    found = [p for p in (person / "videos" / f"{video}.MP4", person / f"{video}.MP4") if p.exists()]
    if not found:
        raise DataError(f"there is no {person}/videos/{video}.MP4 and no {person}/{video}.MP4")
    return found[0]


def read_clip(
    root: Path, action: Action, clip: AnticipationClip, drawn: tuple[float, float]
) -> Tensor:
    """Read the frames before an action: uint8 [T, H, W, 3].

    Args:
        root: Folder of the videos.
        action: The action to anticipate.
        clip: Which frames.
        drawn: Gap [s] and place of the anchor.

    Raises:
        DataError: The video is missing, damaged or too short.
        ConfigError: The video has fewer frames per second than the clip.
    """
    path = video_path(root, action.video)
    facts = inspect_video(path, decode=False)
    played, rate = facts.played()
    if rate != facts.header_fps:  # annotations number the frames of the file
        start, stop = np.searchsorted(played, (action.start, action.stop)).tolist()
        action = dataclasses.replace(action, start=start, stop=stop)
    wanted = clip.frames(action, rate, *drawn)
    if wanted[-1] >= len(played):
        raise DataError(f"{path} has {len(played)} frames; needed: number {wanted[-1]}")
    numbers, places = np.unique(played[wanted], return_inverse=True)
    return torch.from_numpy(VideoFrames(path, facts.frames).read(numbers)[places])


def _batches(
    clips: Iterable[tuple[Action, float, Tensor]], size: int
) -> Iterator[tuple[list[Action], list[float], Tensor]]:
    """Group clips [T, H, W, 3]; the last batch may be smaller."""
    waiting: list[tuple[Action, float, Tensor]] = []
    for item in clips:
        waiting.append(item)
        if len(waiting) == size:
            yield _stack(waiting)
            waiting = []
    if waiting:
        yield _stack(waiting)


def _stack(items: list[tuple[Action, float, Tensor]]) -> tuple[list[Action], list[float], Tensor]:
    actions, seconds, clips = zip(*items, strict=True)
    return list(actions), list(seconds), torch.stack(clips).permute(0, 4, 1, 2, 3)


@torch.no_grad()
def score_probes(
    networks: Networks,
    actions: Sequence[Action],
    classes: ActionClasses,
    root: Path,
    clip: AnticipationClip,
    *,
    image_size: tuple[int, int],
    batch_size: int = 2,
    seed: int = 0,
) -> AnticipationScores:
    """Score each probe on actions, each of which counts once.

    Args:
        networks: Frozen networks and probes, in eval mode.
        actions: Actions whose pairs the classes have (`known_actions`).
        classes: Order of the probes' outputs.
        root: Folder of the videos.
        clip: Which frames before an action.
        image_size: Height and width that frames are transformed to [px].
        batch_size: Clips that go through the networks together.
        seed: Seed of the gaps and anchors, where `clip` has a range of them.

    Raises:
        DataError: No clip can be read, or an action is not among the classes.
        ConfigError: A video has fewer frames per second than the clip.
    """
    generator, transform = random.Random(seed), Preprocess("published", image_size)
    rejected: dict[str, str] = {}
    like = next(networks.encoder.parameters())

    def clips() -> Iterator[tuple[Action, float, Tensor]]:
        for action in tqdm(actions, desc="anticipate", unit="clip"):
            drawn = clip.draw(generator)
            try:
                yield action, drawn[0], transform(read_clip(root, action, clip, drawn))
            except DataError as error:
                name = f"{action.video} {action.start}-{action.stop}"
                log.warning("%s: %s", name, error)
                rejected[name] = str(error)

    labels: list[tuple[int, int, int]] = []
    logits: list[list[dict[Target, Tensor]]] = [[] for _ in networks.probes]
    for batch, seconds, clips_BCTHW in _batches(clips(), batch_size):
        tokens = anticipation_tokens(
            networks.encoder,
            networks.predictor,
            normalise_pixels(clips_BCTHW, like),
            torch.tensor(seconds),
            networks.future,
        )
        labels += [classes.labels(action) for action in batch]
        for row, probe in zip(logits, networks.probes, strict=True):
            row.append({target: out.float().cpu() for target, out in probe(tokens).items()})
    if not labels:
        raise DataError(f"none of {len(actions)} clips in {root} can be read: {rejected}")
    return AnticipationScores([_recalls(row, torch.tensor(labels)) for row in logits], rejected)


def _recalls(rows: list[dict[Target, Tensor]], labels_B3: Tensor) -> dict[Target, Recall]:
    return {
        target: class_mean_recall(torch.cat([row[target] for row in rows]), labels_B, min(5, size))
        for target, labels_B in zip(TARGETS, labels_B3.T, strict=True)
        if (size := rows[0][target].shape[1] if target in rows[0] else 0)
    }
