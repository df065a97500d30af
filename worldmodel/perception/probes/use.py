"""Evaluate and apply trained or published probes: `worldmodel probe eval` and `probe predict`.

Shapes: V views, B items, N tokens, D width, C classes.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldmodel.atomic_io import write_json
from worldmodel.checkpoints.loading import resolve_device
from worldmodel.data.files import links_outside, read_text
from worldmodel.errors import ConfigError, DataError
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.probe import AttentiveClassifier
from worldmodel.perception.features.extract import find_videos
from worldmodel.perception.probes.config import EvalOptions, PredictOptions
from worldmodel.perception.probes.frozen_encoder import open_frozen_encoder
from worldmodel.perception.probes.frozen_tokens import average_views
from worldmodel.perception.probes.known_probe import Known, open_probe
from worldmodel.perception.probes.labelled_videos import LabelledItem, LabelledItems, read_items
from worldmodel.perception.probes.token_file import READ, count_hits, encode_file
from worldmodel.perception.probes.token_set import encode_set
from worldmodel.perception.sharing import OneProcess

log = logging.getLogger(__name__)
NOT_FINITE = "the probabilities are not finite: the weights of probe or encoder are damaged"


def _open(options: EvalOptions | PredictOptions) -> Known:
    return open_probe(
        options.probe, options.encoder, options.device, options.precision, options.head
    )


def _open_encoder(name: str, options: EvalOptions | PredictOptions) -> FrameEncoder:
    return open_frozen_encoder(name, resolve_device(options.device), options.precision)


def eval_probe(options: EvalOptions) -> dict[str, Any]:
    """Measure a probe's accuracy on labelled items; write and return the summary."""
    known = _open(options)
    recipe = options.clips.recipe(known.recipe)
    num_classes = known.probe.config.num_classes
    items = read_items(options.val, options.root, num_classes, links=options.links)
    items = _in_order_of(items, known.classes, num_classes)
    encoder = _open_encoder(known.encoder, options)
    file = encode_set(
        Path(options.out) / "tokens-val.h5",
        encoder,
        items,
        recipe,
        OneProcess(),
        name=f"{known.encoder} {encoder.dtype}",
        num_views=recipe.num_views,
        draw_seed=options.seed if options.as_released else None,
    )
    hits, lost = {1: 0, 5: 0}, 0
    for part in torch.arange(len(file.labels)).split(READ):
        tokens, labels = file.read(part)
        found = _probabilities(known.probe, tokens.to(encoder.device))
        hits = {k: hits[k] + n for k, n in count_hits(found, labels).items()}
        lost += int((~found.isfinite().all(-1)).sum())
    if lost:
        log.warning("%d items count as wrong: %s", lost, NOT_FINITE)
    count = len(file.labels)
    summary = {
        "probe": options.probe,
        "encoder": known.encoder,
        "recipe": asdict(recipe),
        "items": count,
        "not_finite": lost,
        "top1": hits[1] / count,
        "top5": hits[5] / count,
        "rejected": file.rejected,
    }
    write_json(Path(options.out) / "summary.json", summary)
    return summary


def _in_order_of(items: LabelledItems, classes: list[str], num_classes: int) -> LabelledItems:
    """Return items of class folders with the probe's class numbers, by the folders' names.

    Raises:
        DataError: The probe knows none of the folders, or does not name its classes and has
            another number of them.
    """
    if not items.classes:
        return items
    if not classes:
        if len(items.classes) != num_classes:
            raise DataError(
                f"val has {len(items.classes)} class folders, and the probe has {num_classes} "
                "classes without names: give a list of paths and class numbers"
            )
        return items
    kept, rejected = [], dict(items.rejected)
    for item in items.items:
        name = items.classes[item.label]
        if name in classes:
            kept.append(LabelledItem(item.path, classes.index(name)))
        else:
            rejected[str(item.path)] = f"the probe has no class {name!r}"
    if not kept:
        raise DataError(
            f"the probe knows none of val's class folders {list(items.classes)[:5]}; its first "
            f"classes: {classes[:5]}"
        )
    return LabelledItems(tuple(kept), rejected, tuple(classes))


@torch.no_grad()
def _probabilities(probe: AttentiveClassifier, tokens_VBND: Tensor) -> Tensor:
    return average_views(torch.stack([probe(view) for view in tokens_VBND])).cpu()


Prediction = list[tuple[str, float]]


def predict(options: PredictOptions) -> tuple[dict[str, Prediction], dict[str, str]]:
    """Return the most likely classes of each file, and the reasons of those that cannot be read."""
    known = _open(options)
    recipe = options.clips.recipe(known.recipe)
    count = known.probe.config.num_classes
    names = _names(options.labels, count) if options.labels else dict(enumerate(known.classes))
    encoder = _open_encoder(known.encoder, options)
    found: dict[str, Prediction] = {}
    paths = find_videos(Path(options.videos))
    outside = links_outside(paths, Path(options.videos), options.links)
    rejected = {str(path): why for path, why in outside.items()}
    for path in (path for path in paths if path not in outside):
        try:
            tokens = encode_file(encoder, path, recipe, num_views=recipe.num_views)
        except DataError as error:
            rejected[str(path)] = str(error)
            continue
        likely = _probabilities(known.probe, tokens[:, None])[0]
        if not likely.isfinite().all():
            rejected[str(path)] = NOT_FINITE
            continue
        best = likely.topk(min(options.top, count))
        found[str(path)] = [
            (names.get(i, str(i)), float(p))
            for i, p in zip(best.indices.tolist(), best.values, strict=True)
        ]
    if options.out:
        write_json(
            Path(options.out) / "predictions.json", {"predictions": found, "rejected": rejected}
        )
    return found, rejected


def _names(path: str, count: int) -> dict[int, str]:
    """Read the names of some of `count` classes: a JSON list, or an object from number to name.

    Raises:
        ConfigError: The file is neither, or has other classes.
    """
    try:
        value = json.loads(read_text(Path(path)))
        if not isinstance(value, dict | list):
            raise TypeError("it is neither a list nor an object")
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        names = {int(number): str(name) for number, name in pairs}
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"labels={path} cannot be read as JSON class names: {error}") from error
    if isinstance(value, list) and len(value) != count:
        raise ConfigError(f"labels={path} lists {len(value)} names; the probe has {count} classes")
    if wrong := sorted(number for number in names if not 0 <= number < count):
        raise ConfigError(f"labels={path} names class {wrong[0]}; allowed: 0 to {count - 1}")
    return names
