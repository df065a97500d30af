"""Train, evaluate and apply frozen probes: what `worldmodel probe` runs.

Tokens are computed once, without augmentation, and all heads of the grid train on them.

Shapes: V views, B items, N tokens, D width, C classes, P heads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldmodel.atomic_io import atomic_file, write_json
from worldmodel.checkpoints import registry
from worldmodel.checkpoints.container import read_description, read_json
from worldmodel.checkpoints.io import save
from worldmodel.checkpoints.loading import load_encoder, load_probe, resolve_device
from worldmodel.data.files import read_text
from worldmodel.errors import CheckpointError, ConfigError, DataError
from worldmodel.models.config import ProbeConfig
from worldmodel.models.probe import AttentiveClassifier
from worldmodel.perception.features import find_videos
from worldmodel.perception.frozen_tokens import average_views
from worldmodel.perception.head_grid import grid
from worldmodel.perception.labelled_videos import LabelledItems, read_class_folders, read_list
from worldmodel.perception.probe_config import (
    RECIPES,
    EvalOptions,
    PredictOptions,
    Recipe,
    TrainOptions,
)
from worldmodel.perception.probe_training import ProbeGrid
from worldmodel.perception.token_file import TokenFile, count_hits, encode_file, encode_items
from worldmodel.specs import Precision

TASKS = {"places": "places205", "inat": "inat21"}
"""Task in a published probe's name -> preset, where they differ."""
READ = 64
"""Number of items that are read at once for evaluation."""


def read_items(source: str, root: str, num_classes: int = 0) -> LabelledItems:
    """Read a list, or a folder with one folder a class.

    Raises:
        DataError: it holds no usable item.
    """
    if Path(source).is_dir():
        return read_class_folders(Path(source))
    return read_list(Path(source), root=Path(root) if root else None, num_classes=num_classes)


def _prepare(options: TrainOptions) -> tuple[TokenFile, TokenFile, tuple[str, ...], Recipe]:
    """Encode the training and validation items."""
    recipe = options.clips.recipe()
    train = read_items(options.train, options.root)
    num_classes = max(item.label for item in train.items) + 1
    val = read_items(options.val, options.root, num_classes)
    if val.classes != train.classes:
        raise DataError(
            f"val has the class folders {val.classes}, train has {train.classes}: they must agree"
        )
    encoder = load_encoder(options.encoder, options.device, options.precision)
    files = []
    for name, items, views in (("train", train, 1), ("val", val, recipe.num_views)):
        files.append(
            encode_items(
                Path(options.out) / f"tokens-{name}.h5",
                encoder,
                items,
                recipe,
                name=f"{options.encoder} {encoder.dtype}",
                num_views=views,
                dtype=options.dtype,
                draw_seed=options.seed if options.as_released else None,
            )
        )
    return files[0], files[1], train.classes, recipe


@torch.no_grad()
def _hits(heads: ProbeGrid, file: TokenFile, numbers: Tensor, device: torch.device) -> Tensor:
    """Return how many items each head classifies correctly, at rank 1 and 5: [P, 2]."""
    total = torch.zeros(len(heads.heads), 2, dtype=torch.int64)
    for part in numbers.split(READ):
        tokens, labels = file.read(part)
        for head, found in enumerate(heads.probabilities(tokens.to(device)).cpu()):
            total[head] += torch.tensor(list(count_hits(found, labels).values()))
    return total


def _build(options: TrainOptions, recipe: Recipe, sizes: ProbeConfig, batches: int) -> ProbeGrid:
    """Build the grid of heads for a number of batches per epoch."""
    rates = recipe.rates if options.lr is None else (options.lr,)
    decays = recipe.decays if options.weight_decay is None else (options.weight_decay,)
    settings = grid(rates, decays, recipe.warmup_epochs * batches)
    epochs = options.epochs or recipe.epochs
    return ProbeGrid(sizes, settings, epochs * batches, options.seed)


def train_probe(options: TrainOptions) -> dict[str, Any]:
    """Train the grid of heads, choose one and save it; an interrupted run resumes exactly.

    Returns:
        The summary that is also written to summary.json.

    Raises:
        DataError: too few usable items.
        ConfigError: `out` holds another run.
    """
    train, val, classes, recipe = _prepare(options)
    order = torch.randperm(len(train.labels), generator=_generator(options.seed, 0))
    held = 0 if options.as_released else math.ceil(options.choose_share * len(order))
    chosen_on, fitted = order[:held], order[held:]
    if not len(fitted):
        raise DataError(f"{len(order)} usable training items leave none to train on; add items")
    num_classes = max(int(train.labels.max()), len(classes) - 1) + 1
    sizes = ProbeConfig(
        embed_dim=train.shape[2],
        num_heads=options.num_heads,
        depth=options.depth,
        num_classes=num_classes,
    )
    batches = math.ceil(len(fitted) / (options.batch_size or recipe.batch_size))
    heads = _build(options, recipe, sizes, batches)
    device = _fit(options, heads, train, fitted, batches)
    everything = torch.arange(len(val.labels))
    val_hits = _hits(heads, val, everything, device)
    hits = val_hits if options.as_released else _hits(heads, train, chosen_on, device)
    best = int(hits[:, 0].argmax())
    notes = {
        "encoder": options.encoder,
        "recipe": json.dumps(asdict(recipe)),
        "classes": json.dumps(classes),
    }
    head = heads.heads[best]
    assert isinstance(head, AttentiveClassifier)
    save(Path(options.out) / "probe.safetensors", head, notes=notes)
    summary = {
        "options": asdict(options),
        "head": asdict(heads.settings[best]),
        "heads": len(heads.heads),
        "chosen_on": "val" if options.as_released else f"{held} training items",
        "trained_on": len(fitted),
        "val_items": len(val.labels),
        "val_top1": int(val_hits[best, 0]) / len(val.labels),
        "val_top5": int(val_hits[best, 1]) / len(val.labels),
        "val_hits_per_head": val_hits[:, 0].tolist(),
        "rejected": {"train": train.rejected, "val": val.rejected},
    }
    write_json(Path(options.out) / "summary.json", summary)
    return summary


def _generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 100_003 + epoch)


def _fit(
    options: TrainOptions, heads: ProbeGrid, file: TokenFile, fitted: Tensor, batches: int
) -> torch.device:
    """Train to the end, saving after each epoch; return the device of the heads."""
    device = resolve_device(options.device)
    heads.to(device)
    state, curve = Path(options.out) / "state.pt", Path(options.out) / "curves.json"
    rows: list[dict[str, Any]] = []
    asked = json.dumps(dataclasses.asdict(options) | {"device": "", "out": ""})
    if state.is_file():
        rows = _resume(heads, state, asked, device)
    for epoch in range(heads.steps_done // batches, heads.total_steps // batches):
        shuffled = fitted[
            torch.randperm(len(fitted), generator=_generator(options.seed, epoch + 1))
        ]
        losses = []
        for part in shuffled.tensor_split(batches):
            tokens, labels = file.read(part)
            losses.append(heads.update(tokens.to(device), labels.to(device)).cpu())
        rows.append({"epoch": epoch + 1, "loss": torch.stack(losses).mean(0).tolist()})
        with atomic_file(state) as part_file:
            grid_state = heads.training_state()
            torch.save({"options": asked, "grid": grid_state, "rows": rows}, part_file)
        write_json(curve, rows)
    return device


def _resume(
    heads: ProbeGrid, state: Path, asked: str, device: torch.device
) -> list[dict[str, Any]]:
    """Load the state that an earlier run left; return its rows of the learning curve.

    Raises:
        ConfigError: The run had other options.
        CheckpointError: The file is damaged.
    """
    try:
        saved = torch.load(state, map_location=device, weights_only=True)
        options, rows = saved["options"], [dict(row) for row in saved["rows"]]
        if options == asked:
            heads.load_training_state(saved["grid"])
    except Exception as error:  # torch raises errors of any kind on a damaged file
        first = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise CheckpointError(
            f"{state} is damaged ({first[:300]}): delete it to train again, or use another out="
        ) from error
    if options != asked:
        raise ConfigError(f"{state} is of a run with other options: use another out=")
    return rows


@dataclass(frozen=True)
class Known:
    """What is known of a probe besides its weights."""

    probe: AttentiveClassifier
    encoder: str
    """Name of its encoder; empty where it is not known."""
    recipe: Recipe
    classes: list[str]


def open_probe(name: str, encoder: str, device: str, precision: Precision) -> Known:
    """Load a probe with what its file or its published name tells.

    Raises:
        CheckpointError: it is not a probe.
        ConfigError: the encoder is not known and not given.
    """
    probe = load_probe(name, device, precision)
    path = Path(name) / "probe.safetensors" if Path(name).is_dir() else Path(name)
    recipe, own, classes = RECIPES["ssv2"], "", list[str]()
    if path.suffix == ".safetensors" and path.is_file():
        own, recipe, classes = _notes(path)
    elif name in registry.PROBES:
        own, recipe = _published(name)
    elif (Path(name) / "config.json").is_file():
        file = Path(name) / "config.json"
        with _described(file):
            own, (recipe, classes) = name, _huggingface(read_json(file))
    if not (encoder or own):
        raise ConfigError(f"probe={name} does not tell its encoder: give encoder=NAME")
    return Known(probe, encoder or own, recipe, classes)


@contextlib.contextmanager
def _described(path: Path) -> Iterator[None]:
    """Turn any fault of a description into an error that names its file.

    Raises:
        CheckpointError: The description is wrong.
    """
    try:
        yield
    except CheckpointError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} does not describe a probe ({type(error).__name__}: {str(error)[:300]}): train "
            "the probe or download it again"
        ) from error


def _notes(path: Path) -> tuple[str, Recipe, list[str]]:
    """Return the encoder, the recipe and the class names that a probe's file notes.

    Raises:
        CheckpointError: The notes are wrong.
    """
    with _described(path):
        notes = (read_description(path) or {}).get("notes", {})
        recipe = _recipe(json.loads(notes["recipe"])) if "recipe" in notes else RECIPES["ssv2"]
        encoder, classes = notes.get("encoder", ""), json.loads(notes.get("classes", "[]"))
        if not isinstance(encoder, str) or not isinstance(classes, list):
            raise TypeError(f"encoder is {encoder!r}, classes are {classes!r}")
    return encoder, recipe, [str(name) for name in classes]


def _recipe(values: dict[str, Any]) -> Recipe:
    return Recipe(**values | {key: tuple(values[key]) for key in ("rates", "decays")})


def _huggingface(settings: dict[str, Any]) -> tuple[Recipe, list[str]]:
    """Return the recipe and the class names of a Hugging Face classification model."""
    recipe, names = RECIPES["ssv2"], settings.get("id2label", {})
    num_frames = int(settings.get("frames_per_clip", recipe.num_frames))
    classes = [str(names[key]) for key in sorted(names, key=int)]
    return dataclasses.replace(recipe, num_frames=num_frames), classes


def _published(name: str) -> tuple[str, Recipe]:
    """Return the encoder and the recipe of a published probe."""
    known = registry.PROBES[name]
    encoder, task = name.rsplit("-", 1)
    recipe = RECIPES[TASKS.get(task, task)]
    if known.num_frames == 64:
        recipe = RECIPES["ssv2_64"]
    return name if known.repo else encoder, recipe


def eval_probe(options: EvalOptions) -> dict[str, Any]:
    """Measure a probe's accuracy on labelled items; write and return the summary."""
    known = open_probe(options.probe, options.encoder, options.device, options.precision)
    recipe = options.clips.recipe(known.recipe)
    items = read_items(options.val, options.root, known.probe.config.num_classes)
    encoder = load_encoder(known.encoder, options.device, options.precision)
    file = encode_items(
        Path(options.out) / "tokens-val.h5",
        encoder,
        items,
        recipe,
        name=f"{known.encoder} {encoder.dtype}",
        num_views=recipe.num_views,
        draw_seed=options.seed if options.as_released else None,
    )
    hits = {1: 0, 5: 0}
    for part in torch.arange(len(file.labels)).split(READ):
        tokens, labels = file.read(part)
        found = _probabilities(known.probe, tokens.to(encoder.device))
        hits = {k: hits[k] + n for k, n in count_hits(found, labels).items()}
    count = len(file.labels)
    summary = {
        "probe": options.probe,
        "encoder": known.encoder,
        "recipe": asdict(recipe),
        "items": count,
        "top1": hits[1] / count,
        "top5": hits[5] / count,
        "rejected": file.rejected,
    }
    write_json(Path(options.out) / "summary.json", summary)
    return summary


@torch.no_grad()
def _probabilities(probe: AttentiveClassifier, tokens_VBND: Tensor) -> Tensor:
    return average_views(torch.stack([probe(view) for view in tokens_VBND])).cpu()


Prediction = list[tuple[str, float]]


def predict(options: PredictOptions) -> tuple[dict[str, Prediction], dict[str, str]]:
    """Return the most likely classes of each file, and the reasons of those that cannot be read."""
    known = open_probe(options.probe, options.encoder, options.device, options.precision)
    recipe = options.clips.recipe(known.recipe)
    names = _names(options.labels) or known.classes
    encoder = load_encoder(known.encoder, options.device, options.precision)
    found: dict[str, Prediction] = {}
    rejected: dict[str, str] = {}
    for path in find_videos(Path(options.videos)):
        try:
            tokens = encode_file(encoder, path, recipe, num_views=recipe.num_views)
        except DataError as error:
            rejected[str(path)] = str(error)
            continue
        best = _probabilities(known.probe, tokens[:, None])[0].topk(
            min(options.top, known.probe.config.num_classes)
        )
        found[str(path)] = [
            (names[i] if i < len(names) else str(i), float(p))
            for i, p in zip(best.indices.tolist(), best.values, strict=True)
        ]
    if options.out:
        write_json(
            Path(options.out) / "predictions.json", {"predictions": found, "rejected": rejected}
        )
    return found, rejected


def _names(path: str) -> list[str]:
    """Read class names: a JSON list, or an object from number to name."""
    if not path:
        return []
    try:
        value = json.loads(read_text(Path(path)))
        if isinstance(value, dict):
            value = [value[key] for key in sorted(value, key=int)]
        return [str(name) for name in value]
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"labels={path} cannot be read as JSON class names: {error}") from error
