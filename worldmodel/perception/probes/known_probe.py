"""Open a probe together with what its file or its published name tells of it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldmodel.checkpoints import registry
from worldmodel.checkpoints.container import read_description, read_json
from worldmodel.checkpoints.loading import load_probe, place
from worldmodel.checkpoints.pretrained import cached_folder
from worldmodel.checkpoints.published.probes import load_probes
from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.models.probe import AttentiveClassifier
from worldmodel.perception.probes.config import TrainPrecision
from worldmodel.perception.probes.recipes import RECIPES, Recipe
from worldmodel.specs import Precision

TASKS = {"places": "places205", "inat": "inat21"}
"""Task in a published probe's name -> preset, where they differ."""
BY_FRAMES = {32: "diving48", 64: "ssv2_64"}
"""Frames of a clip of Hugging Face's published classification models -> preset, if not ssv2."""


@dataclass(frozen=True)
class Known:
    """What is known of a probe besides its weights."""

    probe: AttentiveClassifier
    encoder: str
    """Name of its encoder; empty where it is not known."""
    recipe: Recipe
    classes: list[str]


def _load_head(name: str, head: int, device: str, precision: TrainPrecision) -> AttentiveClassifier:
    """Load a probe; a head other than the first is one of a published file of several.

    Raises:
        CheckpointError: It is not a probe.
        ConfigError: The file has no such head.
    """
    weights: Precision = "float32" if precision == "float16" else precision
    if head:
        heads = load_probes(name) if Path(name).is_file() else []
        if head >= len(heads):
            raise ConfigError(
                f"head={head}: {name} is not a published file of so many heads; it has "
                f"{max(1, len(heads))}, numbered from 0"
            )
        probe = place(heads[head], device, weights)
    else:
        probe = load_probe(name, device, weights)
    return probe.half() if precision == "float16" else probe


def open_probe(
    name: str, encoder: str, device: str, precision: TrainPrecision, head: int = 0
) -> Known:
    """Load a probe with what its file or its published name tells.

    Raises:
        CheckpointError: It is not a probe.
        ConfigError: The encoder is not known and not given, or there is no such head.
    """
    probe = _load_head(name, head, device, precision)
    path = Path(name) / "probe.safetensors" if Path(name).is_dir() else Path(name)
    settings = (cached_folder(name) or Path(name)) / "config.json"
    recipe, own, classes = RECIPES["ssv2"], "", list[str]()
    if path.suffix == ".safetensors" and path.is_file():
        own, recipe, classes = _notes(path)
    elif name in registry.PROBES:
        own, recipe = published_recipe(name)
    elif settings.is_file():
        with _described(settings):
            own, (recipe, classes) = name, huggingface_recipe(read_json(settings))
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
    lists = ("rates", "decays", "plain")
    return Recipe(**values | {key: tuple(values[key]) for key in lists if key in values})


def huggingface_recipe(settings: dict[str, Any]) -> tuple[Recipe, list[str]]:
    """Return the recipe and the class names of a Hugging Face classification model.

    The number of frames tells which published recipe it is; as in transformers, the last block is
    read.
    """
    num_frames = int(settings.get("frames_per_clip", RECIPES["ssv2"].num_frames))
    recipe, names = RECIPES[BY_FRAMES.get(num_frames, "ssv2")], settings.get("id2label", {})
    classes = [str(names[key]) for key in sorted(names, key=int)]
    return dataclasses.replace(recipe, num_frames=num_frames, levels="last"), classes


def published_recipe(name: str) -> tuple[str, Recipe]:
    """Return the encoder and the recipe of a published probe."""
    known = registry.PROBES[name]
    encoder, task = name.rsplit("-", 1)
    family = "vjepa1_" if name.startswith("vjepa-") else ""
    recipe = RECIPES[family + TASKS.get(task, task)]
    if known.num_frames == 64:
        recipe = RECIPES["ssv2_64"]
    return name if known.repo else encoder, recipe
