"""Measure surprise on a set of pairs, and score it by tested property."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from worldmodel.checked import Checked, between
from worldmodel.data.cache import code_digest
from worldmodel.data.episode import rejecting
from worldmodel.data.transforms import Preprocess
from worldmodel.errors import DataError, ShapeError
from worldmodel.kept_results import KeptResults
from worldmodel.models.model_hash import model_hash
from worldmodel.perception.surprise.measure import SurpriseConfig, SurpriseNetworks, video_surprises
from worldmodel.perception.surprise.pair_metrics import PairMetrics, min_over_contexts, pair_metrics
from worldmodel.perception.surprise.pair_sets import Pair, PairSet
from worldmodel.perception.surprise.pair_videos import Video
from worldmodel.specs import Transform

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PairOptions(Checked):
    """Reading of a set's videos."""

    step: int = field(default=2, metadata=between(1, 1000))
    """Every `step`-th frame is used; published: 2 for IntPhys, 5 for InfLevel, 10 for GRASP and for
    the IntPhys 2 set."""
    transform: Transform = "center_crop"
    """Image transform to the model's size; published for InfLevel: squeeze."""
    batch_size: int = field(default=8, metadata=between(1, 4096))
    """Number of windows per batch."""


@dataclass(frozen=True)
class PairSurprise:
    """Surprises of a pair: one tensor [windows] per context."""

    pair: Pair
    possible: list[Tensor]
    impossible: list[Tensor]


@dataclass(frozen=True)
class SetSurprise:
    """Surprises of all readable pairs of a set."""

    pairs: list[PairSurprise]
    rejected: dict[str, str]
    """Pair or scene -> reason for its rejection."""

    def metrics(
        self, context: int | None = None, *, published_padding: bool = False
    ) -> dict[str, PairMetrics]:
        """Score each property and each subset (`difficulty easy`); `all` has all pairs together.

        Args:
            context: Index of the context; None uses each window's minimum surprise over all
                contexts ("filtered"), which requires contexts without `growing_start`.
            published_padding: Whether to pad short videos with zeros, as in the released
                evaluation.
        """
        groups: dict[str, list[PairSurprise]] = {"all": self.pairs}
        for item in self.pairs:
            groups.setdefault(item.pair.group, []).append(item)
        for item in self.pairs:
            for name, value in item.pair.tags.items():
                groups.setdefault(f"{name} {value}", []).append(item)
        return {
            name: pair_metrics(
                [_windows(item.possible, context) for item in items],
                [_windows(item.impossible, context) for item in items],
                published_padding=published_padding,
            )
            for name, items in groups.items()
        }


def _windows(rows: list[Tensor], context: int | None) -> Tensor:
    return min_over_contexts(rows) if context is None else rows[context]


def measure_pairs(
    model: SurpriseNetworks,
    found: PairSet,
    config: SurpriseConfig,
    options: PairOptions,
    image_size: tuple[int, int],
    keep: Path | None = None,
) -> SetSurprise:
    """Measure the surprise of both videos of every pair.

    Args:
        model: The three networks, in eval mode.
        found: Pairs of the set.
        config: Windows and contexts.
        options: Reading of the videos.
        image_size: Height and width that the videos are transformed to [px].
        keep: File that the surprises are appended to as they come, and from which a second run
            takes those of unchanged videos.

    Returns:
        Surprises, and the pairs whose videos are damaged or too short, with the reasons.

    Raises:
        DataError: No pair could be measured.
        ConfigError: A context does not fit the model.
    """
    transform = Preprocess(options.transform, image_size)

    def measure(video: Video) -> list[Tensor]:
        with rejecting(str(video.path)):
            frames = transform(video.frames(options.step))
        return video_surprises(model, frames, config, options.batch_size)

    networks = (model.encoder, model.target_encoder, model.predictor)
    made_by = {
        "model": [model_hash(network) for network in networks] + [str(model.mask_token)],
        "windows": asdict(config),
        "reading": asdict(options),
        "image_size": image_size,
        "code": code_digest(),
    }
    pairs, rejected = [], dict(found.rejected)
    with KeptResults(keep, made_by, partial(_are_surprises, len(config.contexts))) as kept:
        for pair in _progress(found.pairs):
            try:
                with rejecting(pair.name):
                    key = f"{pair.name} {pair.possible.stamp()} {pair.impossible.stamp()}"
                if kept.get(key) is None:
                    both = measure(pair.possible), measure(pair.impossible)
                    kept.add(key, [[row.tolist() for row in rows] for rows in both])
                rows = cast(list[list[list[float]]], kept.get(key))
                possible, impossible = ([torch.tensor(row) for row in video] for video in rows)
                pairs.append(PairSurprise(pair, possible, impossible))
            except (DataError, ShapeError) as error:
                log.warning("%s: %s", pair.name, error)
                rejected[pair.name] = str(error)
    if not pairs:
        raise DataError(f"none of {len(rejected)} pairs could be measured: {rejected}")
    return SetSurprise(pairs, rejected)


def _are_surprises(contexts: int, value: object) -> bool:
    """Return whether a kept value holds numbers for both videos and every context."""
    try:
        rows = [np.asarray(row, np.float64) for video in cast(Any, value) for row in video]
    except (TypeError, ValueError):
        return False
    fits = all(row.ndim == 1 and np.isfinite(row).all() for row in rows)
    return fits and len(cast(Any, value)) == 2 and len(rows) == 2 * contexts


def _progress(pairs: list[Pair]) -> Iterable[Pair]:
    shown: Iterable[Pair] = tqdm(pairs, desc="surprise", unit="pair")
    return shown
