"""Families of golden arrays: surprise and action anticipation (golden_perception)."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

import torch
from agreement_golden import Golden, Pairs
from torch import Tensor
from torch.nn import functional as F

from worldmodel.checkpoint import load_published
from worldmodel.perception.anticipation.epic_kitchens import (
    Action,
    AnticipationClip,
    class_order,
    known_actions,
    read_actions,
)
from worldmodel.perception.anticipation.pipeline import (
    FutureConfig,
    anticipation_tokens,
    class_mean_recall,
    focal_loss,
    load_anticipation_probes,
)
from worldmodel.perception.surprise import measure as s
from worldmodel.perception.surprise.pair_metrics import (
    min_over_contexts,
    pad_as_published,
    pair_metrics,
)
from worldmodel.perception.surprise.pair_videos import match_scene

INPUTS = (
    *("surprise_videos_u8", "surprise_labels", "metric_surprises", "metric_labels"),
    *("anticipation_clips_u8", "anticipation_seconds", "anticipation_labels_*"),
    *("recall_logits", "recall_labels", "recall_valid_classes"),
)
METRICS = {
    "Relative Accuracy (avg)": "relative_mean",
    "Relative Accuracy (max)": "relative_max",
    "Absolute Accuracy (max)": "absolute_max",
    "Classifier threhshold": "threshold",
    "Best Absolute Accuracy (max)": "best_absolute_max",
    "Best Classifier threhshold": "best_threshold",
    "AUPRC (avg)": "auprc_mean",
    "AUPRC (max)": "auprc_max",
    "AUROC (avg)": "auroc_mean",
    "AUROC (max)": "auroc_max",
}
"""Names in the JSON file, spelled as there, and ours."""
IP1_FACTS = ("parts", "ip1", "facts")
TRAIN = "EPIC_100_train.csv"


def _model(g: Golden, part: str) -> tuple[s.SurpriseModel, s.SurpriseConfig]:
    c = g.sizes("parts", part, "config")
    model = s.load_surprise_model(
        g.folder / "vjepa1_surprise_layout.pth.tar",
        num_heads=c["heads"],
        predictor_heads=c["ph"],
        image_size=c["img"],
        num_frames=c["fpc"],
    )
    for network in (model.encoder, model.target_encoder, model.predictor):
        g.placed(network)
    config = s.SurpriseConfig(
        num_frames=c["fpc"], contexts=tuple(c["contexts"]), stride=c["stride"]
    )
    return model, config


def _videos(
    model: s.SurpriseModel, videos: Iterable[Tensor], config: s.SurpriseConfig
) -> list[list[Tensor]]:
    return [s.video_surprises(model, video, config) for video in videos]


def _stacked(rows: list[list[Tensor]]) -> Tensor:
    """Return [videos, contexts, windows], padded with zeros where contexts are unequal."""
    return torch.stack([pad_as_published(row) for row in rows])


def _scene(g: Golden) -> list[list[int]]:
    """Return the numbers of the videos of each pair."""
    return [
        list(pair) for pair in match_scene(list(g["surprise_videos_u8"].cpu()), as_released=True)
    ]


def scene(g: Golden) -> Pairs:
    """Pairs of a scene's videos, and the labels in their order."""
    matched = _scene(g)
    if "ip1" in g.facts.get("parts", {}):
        yield "matches", torch.tensor(matched), torch.tensor(g.sizes(*IP1_FACTS, "matches"))
    labels = g["surprise_labels"][[i for pair in matched for i in pair]]
    for name in ("", "_context_normalised", "_targets_raw", "_stride1"):
        yield g.pair(f"surprise_order_labels{name}", labels)


def surprises(g: Golden) -> Pairs:
    """Windows of a scene's videos with all variants."""
    model, config = _model(g, "ip1")
    videos = g["surprise_videos_u8"][[i for pair in _scene(g) for i in pair]]
    variants = {
        "": config,
        "_context_normalised": replace(config, normalise_context=True),
        "_targets_raw": replace(config, normalise_targets=False),
        "_stride1": replace(config, stride=1, contexts=config.contexts[:2]),
    }
    for name, variant in variants.items():
        rows = _videos(model, videos, variant)
        yield g.pair(f"surprise_windows{name}", _stacked(rows))
        if not name:
            lowest = torch.stack([min_over_contexts(row) for row in rows])
            yield g.pair("surprise_min_over_contexts", lowest)


def window(g: Golden) -> Pairs:
    """One window step by step."""
    model, config = _model(g, "ip1")
    clip = s.windows_of(g["surprise_videos_u8"][0], config.num_frames, config.stride)[:1]
    pixels = s.normalise_pixels(clip, next(model.encoder.parameters()))
    tokens = model.target_encoder(pixels)
    tokens = F.layer_norm(tokens, tokens.shape[-1:])
    found = s.predict_rest(model, pixels, tokens, config.contexts[1], config)
    yield g.pair("window0_mask_context", found.context_ids[0])
    yield g.pair("window0_mask_target", found.target_ids[0])
    yield g.pair("window0_context_tokens", found.context)
    yield g.pair("window0_targets", found.targets)
    yield g.pair("window0_predictions", found.predicted)


def intphys2(g: Golden) -> Pairs:
    """Windows with a start that grows, and without."""
    model, config = _model(g, "ip2")
    contexts = tuple(g.sizes("parts", "ip2", "facts", "intphys2_contexts"))
    config, videos = replace(config, contexts=contexts), g["surprise_videos_u8"]
    growing = _videos(model, videos, replace(config, growing_start=True))
    yield g.pair("intphys2_windows", _stacked(growing))
    plain = _stacked(_videos(model, videos, config))
    yield g.pair("intphys2_windows_without_start", plain)


def metrics(g: Golden) -> Pairs:
    """Scores of made-up surprises, which the JSON file holds."""
    rows, possible = g["metric_surprises"].cpu(), g["metric_labels"].cpu() == 1
    found = pair_metrics(list(rows[possible]), list(rows[~possible]))
    for name, wanted in g.sizes(*IP1_FACTS, "metrics").items():
        ours = torch.tensor(getattr(found, METRICS[name]), dtype=torch.float64)
        yield f"metrics/{name}", ours, torch.tensor(wanted, dtype=torch.float64)


def _frames(
    actions: list[Action], clip: AnticipationClip, generator: random.Random
) -> tuple[Tensor, Tensor]:
    """Return rows of verb, noun and frame numbers, and the times and places drawn for them."""
    rows, drawn = [], []
    for action in actions:
        fps = int(action.video.rpartition("_")[2]) / 1000  # made-up names end with 1000 * fps
        drawn.append(clip.draw(generator))
        rows.append([action.verb, action.noun, *clip.frames(action, fps, *drawn[-1])])
    return torch.tensor(rows), torch.tensor(drawn, dtype=torch.float64)


def ek_classes(g: Golden) -> Pairs:
    """Class order."""
    classes = class_order(read_actions(g.folder / TRAIN))
    for kind in ("verb", "noun", "action"):
        wanted = torch.tensor(g.sizes("parts", "vjepa2", "facts", f"ek_{kind}_classes"))
        yield f"ek_{kind}_classes", torch.tensor(getattr(classes, f"{kind}s")), wanted


def ek_validation(g: Golden) -> Pairs:
    """Frames of each validation clip."""
    classes = class_order(read_actions(g.folder / TRAIN))
    kept = known_actions(read_actions(g.folder / "EPIC_100_validation.csv"), classes)
    for name in ("as_released", "from_the_start"):
        array = f"ek_frames_val_{name}"
        if array in g.arrays:
            size = g[array].shape[1] - 2
            clip = AnticipationClip(num_frames=size, as_released=name == "as_released")
            yield g.pair(array, _frames(kept, clip, random.Random(0))[0])


def ek_training(g: Golden) -> Pairs:
    """Frames of the first training clips, and the times and places drawn for them."""
    train = read_actions(g.folder / TRAIN)
    count, size = g["ek_frames_train_released"].shape
    clip = AnticipationClip(num_frames=size - 2, seconds=(0.25, 1.75), anchor=(0.0, 0.25))
    generator = random.Random(g.sizes("parts", "vjepa2", "config", "seed"))
    frames, drawn = _frames(known_actions(train, class_order(train))[:count], clip, generator)
    yield g.pair("ek_frames_train_released", frames)
    yield g.pair("ek_train_random_time_point", drawn)


def anticipation(g: Golden) -> Pairs:
    """Tokens of the future."""
    c, file = g.sizes("parts", "vjepa2", "config"), g.folder / "vjepa2_layout.pt"
    encoder = g.placed(load_published(file, "target_encoder", num_heads=c["heads"]))
    predictor = g.placed(load_published(file, "predictor", num_heads=c["ph"]))
    pixels = s.normalise_pixels(g["anticipation_clips_u8"], next(encoder.parameters()))
    config, seconds = FutureConfig(fps=c["fps"]), g["anticipation_seconds"]
    variants = {
        "": config,
        "_two_steps": replace(config, num_steps=2),
        "_predictor_only": replace(config, parts="predictor"),
        "_four_frames": replace(config, num_output_frames=4),
    }
    for name, variant in variants.items():
        tokens = anticipation_tokens(encoder, predictor, pixels, seconds, variant)
        yield g.pair(f"anticipation_tokens{name}", tokens)


def anticipation_probe(g: Golden) -> Pairs:
    """The probe on the golden tokens, and its loss."""
    heads = g.sizes("parts", "vjepa2", "config", "ek_heads")
    probe, *_ = load_anticipation_probes(g.folder / "ek100_probe_layout.pt", heads)
    for target, logits in g.placed(probe)(g.given(g["anticipation_tokens"])).items():
        yield g.pair(f"anticipation_logits_{target}", logits)
        loss = focal_loss(logits, g[f"anticipation_labels_{target}"])
        yield g.pair(f"anticipation_focal_{target}", loss)


def recall(g: Golden) -> Pairs:
    """Mean class recall."""
    given = g["recall_logits"].cpu(), g["recall_labels"].cpu()
    top5 = class_mean_recall(*given)
    found = {
        "recall_at_5": top5.mean_class_recall,
        "recall_accuracy": top5.accuracy,
        "recall_at_1": class_mean_recall(*given, k=1).mean_class_recall,
    }
    for name, value in found.items():
        yield g.pair(name, torch.tensor(value, dtype=torch.float64))


def recall_of_valid_classes(g: Golden) -> Pairs:
    """Mean class recall with the restriction to valid classes."""
    given = g["recall_logits"].cpu(), g["recall_labels"].cpu()
    valid = class_mean_recall(*given, valid_classes=g["recall_valid_classes"].cpu())
    value = torch.tensor(valid.mean_class_recall, dtype=torch.float64)
    yield g.pair("recall_at_5_valid_only", value)


FUNCTIONS = (
    *(scene, surprises, window, intphys2, metrics, ek_classes, ek_validation, ek_training),
    *(anticipation, anticipation_probe, recall, recall_of_valid_classes),
)
FAMILIES = tuple(("golden_perception", family) for family in FUNCTIONS)
