"""Surprise on sets of video pairs: load the networks, read the set, score and draw."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from planning.errors import PlanError
from planning.metrics import wilson
from worldmodel.atomic_io import write_json
from worldmodel.checkpoints.assemble import find_source
from worldmodel.checkpoints.loading import resolve_device
from worldmodel.checkpoints.masked_networks import FILE
from worldmodel.data.transforms import Preprocess
from worldmodel.models.precision import use_precision
from worldmodel.perception.surprise.compared import ComparedModel, load_compared_model
from worldmodel.perception.surprise.measure import (
    SurpriseConfig,
    SurpriseModel,
    load_surprise_model,
)
from worldmodel.perception.surprise.pair_metrics import PairMetrics
from worldmodel.perception.surprise.pair_sets import (
    PairSet,
    read_grasp,
    read_inflevel,
    read_intphys,
    read_intphys2,
)
from worldmodel.perception.surprise.pair_surprise import PairOptions, SetSurprise
from worldmodel.perception.surprise.picture import draw_pair
from worldmodel.specs import Precision

HUB = "hf:"
"""Beginning of the names of transformers' backbones."""
Scores = dict[str, dict[str, PairMetrics]]
"""Context and property -> scores."""


def require_predictor(name: str) -> None:
    """Refuse the name of an encoder alone, before anything is read.

    Raises:
        PlanError: The model has no masked predictor.
    """
    if name.startswith("random:"):
        raise PlanError(
            f"model={name} is an encoder without a masked predictor, and surprise is a "
            "prediction's error. Give a V-JEPA 1 or 2 pretraining file, the folder of a run of "
            "`worldmodel pretrain`, or hf:NAME of DINOv2 or VideoMAE to compare with."
        )


def load_networks(
    name: str,
    *,
    heads: tuple[int | None, int | None],
    image_size: int | None,
    num_frames: int,
    device: str,
    precision: Precision,
) -> tuple[SurpriseModel | ComparedModel, int]:
    """Load the networks of a published name or a file; return them and the image size [px].

    Args:
        name: Published name or file, or `hf:NAME` of a backbone to compare with.
        heads: Attention heads of the encoder and of the predictor; None takes the published ones.
        image_size: Height and width of the images; None takes the published ones, or 256.
        num_frames: Frames of a window.
        device: Device of the networks.
        precision: Data type of their weights.
    """
    model: SurpriseModel | ComparedModel
    if name.startswith(HUB):
        if any(heads):
            raise PlanError(f"model={name} knows its heads. Leave out num_heads, predictor_heads.")
        model = load_compared_model(name.removeprefix(HUB), image_size)
        size = image_size or model.encoder.config.image_size[0]
    else:
        path, known = find_source(name)
        _require_networks(Path(path))
        model = load_surprise_model(
            path,
            num_heads=heads[0],
            predictor_heads=heads[1],
            image_size=image_size or (known.image_size if known else 256),
            num_frames=num_frames,
        )
        size = image_size or (known.image_size if known else model.encoder.config.image_size[0])
    target, networks = (
        resolve_device(device),
        (model.encoder, model.target_encoder, model.predictor),
    )
    use_precision(networks, precision, target)
    for network in networks:
        network.to(target)
    return model, size


def _require_networks(path: Path) -> None:
    """Refuse the folder of a run that left no predictor.

    Raises:
        PlanError: There is an encoder alone, or nothing yet.
    """
    is_run = path.is_dir() and (path / "metrics.jsonl").is_file()
    if is_run and not (path / FILE).is_file():
        raise PlanError(
            f"{path} has no {FILE}. `worldmodel pretrain` writes it at the end of a run with "
            "levels=1; networks of several levels measure no surprise."
        )


def read_set(benchmark: str, data: Path, pairs_csv: Path, *, as_released: bool) -> PairSet:
    """Read the pairs of a set."""
    if benchmark == "intphys":
        return read_intphys(data, as_released=as_released)
    if benchmark == "inflevel":
        return read_inflevel(data, pairs_csv)
    return read_grasp(data) if benchmark == "grasp" else read_intphys2(data)


def score(found: SetSurprise, config: SurpriseConfig) -> Scores:
    """Score each context, and the least surprise over contexts ("filtered") where it exists."""
    padding = config.as_released
    scores = {
        f"context {frames}": found.metrics(i, published_padding=padding)
        for i, frames in enumerate(config.contexts)
    }
    if not config.growing_start:
        scores["filtered"] = found.metrics(published_padding=padding)
    return scores


def share_interval(found: PairMetrics) -> tuple[float, float]:
    """Return the 95 % interval of `relative_mean` [%] (Wilson)."""
    pairs = found.num_pairs
    low, high = wilson(round(found.relative_mean * pairs / 100), pairs)
    return 100 * low, 100 * high


def write(out: Path, found: SetSurprise, scores: Scores, settings: dict[str, object]) -> None:
    """Write summary.json, and pairs.json with the surprise of every window."""
    out.mkdir(parents=True, exist_ok=True)
    shown = {
        context: {
            group: asdict(m) | {"relative_mean_ci95": share_interval(m)}
            for group, m in groups.items()
        }
        for context, groups in scores.items()
    }
    write_json(
        out / "summary.json", {"options": settings, "scores": shown, "rejected": found.rejected}
    )
    rows = [
        {
            "name": item.pair.name,
            "group": item.pair.group,
            **item.pair.tags,
            "possible": [row.tolist() for row in item.possible],
            "impossible": [row.tolist() for row in item.impossible],
        }
        for item in found.pairs
    ]
    write_json(out / "pairs.json", {"pairs": rows})


def draw(
    out: Path,
    found: SetSurprise,
    config: SurpriseConfig,
    options: PairOptions,
    *,
    count: int,
    image_size: int,
) -> None:
    """Draw the first `count` pairs with the surprise of the shortest context."""
    transform = Preprocess(options.transform, (image_size, image_size))
    shortest = config.contexts.index(min(config.contexts))
    for number, item in enumerate(found.pairs[:count]):
        videos = [item.pair.possible, item.pair.impossible]
        first, second = (transform(video.frames(options.step)) for video in videos)
        # With a growing start, surprises of the first window with shorter contexts come first.
        curves = [
            row[shortest][-((len(video) - config.num_frames) // config.stride + 1) :]
            for row, video in zip((item.possible, item.impossible), (first, second), strict=True)
        ]
        draw_pair(
            out / f"pair_{number:04d}.png",
            (first, second),
            (curves[0], curves[1]),
            (config.num_frames, config.stride),
            f"{item.pair.group}: {item.pair.name}",
        )
