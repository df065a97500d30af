"""Score anticipation probes on videos of EPIC-KITCHENS-100; every clip counts once.

Shapes: B clips, T frames, H W pixels, C classes.
"""

from __future__ import annotations

import dataclasses
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from worldmodel.data.cache import code_digest
from worldmodel.data.episode import rejecting
from worldmodel.data.files import inside
from worldmodel.data.transforms import Preprocess
from worldmodel.data.video import VideoFrames, packet_facts
from worldmodel.errors import ConfigError, DataError
from worldmodel.kept_results import KeptResults
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.masked_predictor import MaskedPredictor
from worldmodel.models.model_hash import model_hash
from worldmodel.perception.anticipation.epic_kitchens import Action, ActionClasses, AnticipationClip
from worldmodel.perception.anticipation.pipeline import (
    TARGETS,
    AnticipationProbe,
    FutureConfig,
    Recall,
    Target,
    anticipation_tokens,
    recall_of_hits,
)
from worldmodel.perception.hdf5_file import source_stamp
from worldmodel.perception.surprise.measure import normalise_pixels

log = logging.getLogger(__name__)
GUESSES = 5
"""A clip is a hit if its class is among this many highest scores: k of recall@k."""
Hits = list[dict[Target, bool]]
"""Whether a clip is a hit, by target, for each probe."""


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
    unknown: list[str] = field(default_factory=list)
    """Video and frames of the actions whose verb and noun do not occur together in the training
    annotations."""


def video_path(root: Path, video: str) -> Path:
    """Return the file of a video in one of the two published layouts.

    They are `P01/videos/P01_01.MP4` and `P01/P01_01.MP4`; the extension may be lower case.

    Raises:
        DataError: Neither exists.
    """
    person = inside(root, video).with_name(video.partition("_")[0])
    places = [
        folder / f"{video}.{extension}"
        for folder in (person / "videos", person)
        for extension in ("MP4", "mp4")
    ]
    found = [path for path in places if path.exists()]
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
        DataError: The video is missing, damaged or too short, or has fewer frames per second than
            the clip.
    """
    path = video_path(root, action.video)
    facts = packet_facts(path)
    played, rate = facts.played()
    if rate != facts.header_fps:  # annotations number the frames of the file
        start, stop = np.searchsorted(played, (action.start, action.stop)).tolist()
        action = dataclasses.replace(action, start=start, stop=stop)
    try:
        wanted = clip.frames(action, rate, *drawn)
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error
    if wanted[-1] >= len(played):
        raise DataError(f"{path} has {len(played)} frames; needed: number {wanted[-1]}")
    numbers, places = np.unique(played[wanted], return_inverse=True)
    return torch.from_numpy(VideoFrames(path, facts.frames).read(numbers)[places])


@dataclass(frozen=True)
class _Clip:
    """A clip that was read."""

    key: str
    """Names the clip in the kept results."""
    action: Action
    seconds: float
    """Gap between the end of the clip and the action [s]."""
    frames_THWC: Tensor


def _batches(clips: Iterable[_Clip], size: int) -> Iterator[list[_Clip]]:
    """Group clips; the last batch may be smaller."""
    waiting: list[_Clip] = []
    for item in clips:
        waiting.append(item)
        if len(waiting) == size:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


@torch.no_grad()
def _hits(networks: Networks, batch: list[_Clip], classes: ActionClasses) -> list[Hits]:
    """Return the hits of each clip of a batch."""
    clips_BCTHW = torch.stack([clip.frames_THWC for clip in batch]).permute(0, 4, 1, 2, 3)
    tokens = anticipation_tokens(
        networks.encoder,
        networks.predictor,
        normalise_pixels(clips_BCTHW, next(networks.encoder.parameters())),
        torch.tensor([clip.seconds for clip in batch]),
        networks.future,
    )
    labels_B3 = torch.tensor([classes.labels(clip.action) for clip in batch])
    found: list[Hits] = [[] for _ in batch]
    for probe in networks.probes:
        logits = {target: out.float().cpu() for target, out in probe(tokens).items()}
        guesses = {t: out.topk(min(GUESSES, out.shape[1])).indices for t, out in logits.items()}
        for i, hits in enumerate(found):
            hits.append(
                {
                    t: bool(
                        (guesses[t][i] == labels_B3[i, n]).any() & logits[t][i].isfinite().all()
                    )
                    for n, t in enumerate(TARGETS)
                    if t in guesses
                }
            )
    return found


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
    keep: Path | None = None,
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
        keep: File that the hits of clips are appended to as they come, and from which a second run
            takes those of unchanged videos.

    Raises:
        DataError: No clip can be read, or an action is not among the classes.
    """
    generator, transform = random.Random(seed), Preprocess("published", image_size)
    rejected: dict[str, str] = {}
    keys: list[tuple[str, Action]] = []

    def clips() -> Iterator[_Clip]:
        for number, action in enumerate(tqdm(actions, desc="anticipate", unit="clip")):
            drawn, name = clip.draw(generator), f"{action.video} {action.start}-{action.stop}"
            try:
                with rejecting(name):
                    key = f"{number} {name} {source_stamp(video_path(root, action.video))}"
                    is_new = kept.get(key) is None
                    frames = transform(read_clip(root, action, clip, drawn)) if is_new else None
                if frames is not None:
                    yield _Clip(key, action, drawn[0], frames)
                keys.append((key, action))
            except DataError as error:
                log.warning("%s: %s", name, error)
                rejected[name if name not in rejected else f"{name}, action {number}"] = str(error)

    made_by, fits = _made_by(networks, classes, clip, image_size, seed), _fits(networks.probes)
    with KeptResults(keep, made_by, fits) as kept:
        for batch in _batches(clips(), batch_size):
            for item, hits in zip(batch, _hits(networks, batch, classes), strict=True):
                kept.add(item.key, hits)
    if not keys:
        raise DataError(f"none of {len(actions)} clips in {root} can be read: {rejected}")
    rows = [cast(Hits, kept.get(key)) for key, _ in keys]
    labels_B3 = torch.tensor([classes.labels(action) for _, action in keys])
    recalls = [_recalls([row[i] for row in rows], labels_B3) for i in range(len(networks.probes))]
    return AnticipationScores(recalls, rejected)


def _fits(probes: Sequence[AnticipationProbe]) -> Callable[[object], bool]:
    """Return whether a kept value holds the hits of all probes."""

    def fits(value: object) -> bool:
        rows = value if isinstance(value, list) else []
        return len(rows) == len(probes) and all(
            isinstance(row, dict) and bool(row) and all(type(hit) is bool for hit in row.values())
            for row in rows
        )

    return fits


def _made_by(
    networks: Networks,
    classes: ActionClasses,
    clip: AnticipationClip,
    image_size: tuple[int, int],
    seed: int,
) -> dict[str, object]:
    """Return all that the hits of a clip depend on besides its video."""
    models = (networks.encoder, networks.predictor, *networks.probes)
    return {
        "models": [model_hash(model) for model in models],
        "future": asdict(networks.future),
        "classes": asdict(classes),
        "clip": asdict(clip),
        "image_size": image_size,
        "seed": seed,
        "code": code_digest(),
    }


def _recalls(rows: Hits, labels_B3: Tensor) -> dict[Target, Recall]:
    return {
        target: recall_of_hits(torch.tensor([row[target] for row in rows]), labels_B)
        for target, labels_B in zip(TARGETS, labels_B3.T, strict=True)
        if target in rows[0]
    }
