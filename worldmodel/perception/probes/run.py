"""Train frozen probes: what `worldmodel probe train` runs.

Without augmentation, tokens are computed once and all heads of the grid train on them; with it,
they are computed in each epoch.

Shapes: V views, B items, N tokens, D width, P heads.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldmodel.atomic_io import write_json
from worldmodel.checkpoints.io import save
from worldmodel.errors import ConfigError, DataError
from worldmodel.models.config import ProbeConfig
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.probe import AttentiveClassifier
from worldmodel.perception.hdf5_file import source_stamp
from worldmodel.perception.heads.fitting import Fitting, Read, fit, generator_of, run_facts
from worldmodel.perception.heads.grid import HeadGrid, HeadSettings, grid
from worldmodel.perception.probes.classifiers import ProbeGrid, probabilities
from worldmodel.perception.probes.config import TrainOptions
from worldmodel.perception.probes.fresh_tokens import FreshTokens
from worldmodel.perception.probes.frozen_encoder import low_precision, open_frozen_encoder
from worldmodel.perception.probes.frozen_tokens import recipe_for
from worldmodel.perception.probes.labelled_videos import (
    LabelledItems,
    num_classes_of,
    read_items,
    remarks,
)
from worldmodel.perception.probes.recipes import Recipe
from worldmodel.perception.probes.token_file import READ, count_hits
from worldmodel.perception.probes.token_set import TokenSet, encode_set
from worldmodel.perception.sharing import OneProcess, Processes, sum_in_place

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Sets:
    """Items of a run: those that are trained on, those that choose a head, and those that judge."""

    read: Read
    """Reads the items that are trained on."""
    fitted: Tensor
    """Their numbers."""
    chosen_on: tuple[TokenSet, Tensor]
    """Tokens, and the numbers of those items on which the best head is chosen."""
    val: TokenSet
    rejected: dict[str, dict[str, str]]
    """Set -> item -> reason."""
    encoder: FrameEncoder


def read_train_and_val(options: TrainOptions) -> tuple[LabelledItems, LabelledItems]:
    """Read both lists.

    Raises:
        DataError: One of them has no usable item, or they differ in their class folders.
        ConfigError: `num_classes` is less than the number of class folders.
    """
    given = options.num_classes or 0
    train = read_items(options.train, options.root, given, links=options.links)
    if given and given < len(train.classes):
        raise ConfigError(
            f"num_classes={given}, but train has {len(train.classes)} class folders: leave "
            "num_classes out, or give their number"
        )
    num_classes = given or max(item.label for item in train.items) + 1
    val = read_items(options.val, options.root, num_classes, links=options.links)
    if val.classes != train.classes:
        raise DataError(
            f"val has the class folders {val.classes}, train has {train.classes}: they must agree"
        )
    return train, val


def _divide(options: TrainOptions, count: int) -> tuple[Tensor, Tensor]:
    """Return the numbers of the items that choose a head, and of those that are trained on.

    Raises:
        DataError: Too few items.
    """
    order = torch.randperm(count, generator=generator_of(options.seed, 0))
    held = 0 if options.as_released else math.ceil(options.choose_share * len(order))
    if held >= count:
        raise DataError(f"{count} usable training items leave none to train on; add items")
    return order[:held], order[held:]


def _prepare(
    options: TrainOptions,
    items: tuple[LabelledItems, LabelledItems],
    recipe: Recipe,
    encoder: FrameEncoder,
    processes: Processes,
) -> _Sets:
    """Encode what is encoded once, and divide the training items."""
    train, val = items

    def encoded(name: str, part: LabelledItems, num_views: int, folder: str = "") -> TokenSet:
        return encode_set(
            Path(folder or options.tokens or options.out) / f"tokens-{name}.h5",
            encoder,
            part,
            recipe,
            processes,
            name=f"{options.encoder} {encoder.dtype}",
            num_views=num_views,
            dtype=options.dtype,
            draw_seed=options.seed if options.as_released else None,
        )

    judged = encoded("val", val, recipe.num_views)
    if not options.augment:
        stored = encoded("train", train, 1)
        chosen, fitted = _divide(options, len(stored.labels))
        rejected = {"train": stored.rejected, "val": judged.rejected}
        return _Sets(
            lambda _, numbers: stored.read(numbers),
            fitted,
            (stored, chosen),
            judged,
            rejected,
            encoder,
        )
    chosen, fitted = _divide(options, len(train.items))
    fresh = FreshTokens(encoder, train, recipe, options.seed, dict(train.rejected))
    if options.as_released:
        choosing = (judged, chosen)
    else:
        held = tuple(train.items[number] for number in chosen.sort().values.tolist())
        tokens = encoded("choose", LabelledItems(held, {}, train.classes), 1, options.out)
        fresh.rejected.update(tokens.rejected)
        choosing = (tokens, torch.arange(len(tokens.labels)))
    rejected = {"train": fresh.rejected, "val": judged.rejected}
    return _Sets(fresh.read, fitted, choosing, judged, rejected, encoder)


@torch.no_grad()
def _hits(
    heads: HeadGrid[Tensor],
    tokens: TokenSet,
    numbers: Tensor,
    processes: Processes,
    device: torch.device,
) -> Tensor:
    """Return how many items each head classifies correctly, at rank 1 and 5: [P, 2]."""
    total = torch.zeros(len(heads.heads), 2, dtype=torch.int64)
    own = numbers[processes.rank :: processes.count]
    for part in own.split(READ) if len(own) else ():
        read, labels = tokens.read(part)
        for head, found in enumerate(probabilities(heads, read.to(device)).cpu()):
            total[head] += torch.tensor(list(count_hits(found, labels).values()))
    return torch.stack(processes.from_all(total)).sum(0)


def settings_of(
    recipe: Recipe, batches: int, lr: float | None, weight_decay: float | None
) -> tuple[HeadSettings, ...]:
    """Return the settings of the grid of heads for a number of batches per epoch."""
    rates = recipe.rates if lr is None else (lr,)
    decays = recipe.decays if weight_decay is None else (weight_decay,)
    found = grid(rates, decays, recipe.warmup_epochs * batches)
    if recipe.plain and lr is None and weight_decay is None:
        found += grid(recipe.plain[:1], recipe.plain[1:])
    return tuple(
        dataclasses.replace(
            settings,
            final_decay=recipe.final_decay,
            decay_all=recipe.decay_all,
            clip_norm=recipe.clip_norm,
        )
        for settings in found
    )


def _build(
    options: TrainOptions,
    recipe: Recipe,
    train: LabelledItems,
    num_classes: int,
    sets: _Sets,
    processes: Processes,
    device: torch.device,
) -> Fitting[Tensor]:
    """Build the grid of heads and say what it is trained on."""
    sizes = ProbeConfig(
        embed_dim=sets.val.width,
        num_heads=options.num_heads,
        depth=options.depth or recipe.depth,
        num_classes=num_classes,
    )
    batches = math.ceil(len(sets.fitted) / (options.batch_size or recipe.batch_size))
    heads = ProbeGrid(
        sizes,
        settings_of(recipe, batches, options.lr, options.weight_decay),
        (options.epochs or recipe.epochs) * batches,
        options.seed,
        low=low_precision(options.precision, device),
        exchange=sum_in_place if processes.count > 1 else None,
    )
    items = [[str(item.path), item.label, source_stamp(item.path)] for item in train.items]
    return Fitting(
        heads=heads,
        read=sets.read,
        numbers=sets.fitted,
        batches=batches,
        seed=options.seed,
        out=Path(options.out),
        facts=run_facts(asdict(options), [sets.encoder], items),
        save_every=options.save_every,
        rejected=sets.rejected["train"],
    )


def train_probe(options: TrainOptions, processes: Processes | None = None) -> dict[str, Any]:
    """Train the grid of heads, choose one and save it; an interrupted run resumes exactly.

    Args:
        options: Options of the run.
        processes: Processes of the run; None is this one alone.

    Returns:
        The summary that is also written to summary.json.

    Raises:
        DataError: Too few usable items.
        ConfigError: `out` holds another run.
    """
    processes = processes or OneProcess()
    device = processes.device(options.device)
    items = read_train_and_val(options)
    num_classes = options.num_classes or num_classes_of(items[0])
    doubts = remarks(*items, num_classes)
    for doubt in () if processes.rank else doubts:
        log.warning(doubt)
    encoder = open_frozen_encoder(options.encoder, device, options.precision)
    paths = [item.path for part in items for item in part.items]
    recipe = recipe_for(options.clips, encoder, paths)
    sets = _prepare(options, items, recipe, encoder, processes)
    fitting = _build(options, recipe, items[0], num_classes, sets, processes, device)
    fit(fitting, processes, device)
    heads = fitting.heads
    val_hits = _hits(heads, sets.val, torch.arange(len(sets.val.labels)), processes, device)
    hits = val_hits if options.as_released else _hits(heads, *sets.chosen_on, processes, device)
    best = int(hits[:, 0].argmax())
    count, lost = len(sets.val.labels), sets.rejected["train"]
    used = [str(items[0].items[n].path) not in lost for n in sets.fitted.tolist()]
    summary = {
        "options": asdict(options),
        "head": asdict(heads.settings[best]),
        "heads": len(heads.heads),
        "chosen_on": "val" if options.as_released else f"{len(sets.chosen_on[1])} training items",
        "trained_on": sum(used) if options.augment else len(used),
        "val_items": count,
        "val_top1": int(val_hits[best, 0]) / count,
        "val_top5": int(val_hits[best, 1]) / count,
        "val_hits_per_head": val_hits[:, 0].tolist(),
        "classes": num_classes,
        "remarks": doubts,
        "processes": processes.count,
        "rejected": sets.rejected,
    }
    if not processes.rank:
        head = heads.heads[best]
        assert isinstance(head, AttentiveClassifier)
        notes = {
            "encoder": options.encoder,
            "recipe": json.dumps(asdict(recipe)),
            "classes": json.dumps(items[0].classes),
        }
        save(Path(options.out) / "probe.safetensors", head, notes=notes)
        write_json(Path(options.out) / "summary.json", summary)
    return summary
