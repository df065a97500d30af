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


def _model(g: Golden, part: str) -> tuple[s.SurpriseModel, s.SurpriseConfig]:
    c = g.facts["parts"][part]["config"]
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


def surprises(g: Golden) -> Pairs:
    """Windows of a scene's videos with all variants, and one window step by step."""
    model, config = _model(g, "ip1")
    matched = match_scene(list(g.arrays["surprise_videos_u8"]), as_released=True)
    facts = g.facts["parts"]["ip1"]["facts"]
    yield "matches", torch.tensor(matched), torch.tensor(facts["matches"])
    order = [i for pair in matched for i in pair]
    videos = g["surprise_videos_u8"][order]
    variants = {
        "": config,
        "_context_normalised": replace(config, normalise_context=True),
        "_targets_raw": replace(config, normalise_targets=False),
        "_stride1": replace(config, stride=1, contexts=config.contexts[:2]),
    }
    for name, variant in variants.items():
        rows = _videos(model, videos, variant)
        yield g.pair(f"surprise_windows{name}", _stacked(rows))
        yield g.pair(f"surprise_order_labels{name}", g["surprise_labels"][order])
        if not name:
            lowest = torch.stack([min_over_contexts(row) for row in rows])
            yield g.pair("surprise_min_over_contexts", lowest)
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
    contexts = tuple(g.facts["parts"]["ip2"]["facts"]["intphys2_contexts"])
    config, videos = replace(config, contexts=contexts), g["surprise_videos_u8"]
    growing = _videos(model, videos, replace(config, growing_start=True))
    yield g.pair("intphys2_windows", _stacked(growing))
    plain = _stacked(_videos(model, videos, config))
    yield g.pair("intphys2_windows_without_start", plain)


def metrics(g: Golden) -> Pairs:
    """Scores of made-up surprises, which the JSON file holds."""
    rows, possible = g.arrays["metric_surprises"], g.arrays["metric_labels"] == 1
    found = pair_metrics(list(rows[possible]), list(rows[~possible]))
    for name, wanted in g.facts["parts"]["ip1"]["facts"]["metrics"].items():
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


def epic_kitchens(g: Golden) -> Pairs:
    """Class order, and the frames of each clip."""
    train = read_actions(g.folder / "EPIC_100_train.csv")
    classes = class_order(train)
    for kind in ("verb", "noun", "action"):
        wanted = torch.tensor(g.facts["parts"]["vjepa2"]["facts"][f"ek_{kind}_classes"])
        yield f"ek_{kind}_classes", torch.tensor(getattr(classes, f"{kind}s")), wanted
    kept = known_actions(read_actions(g.folder / "EPIC_100_validation.csv"), classes)
    size = g["ek_frames_val_as_released"].shape[1] - 2
    for name, as_released in (("as_released", True), ("from_the_start", False)):
        clip = AnticipationClip(num_frames=size, as_released=as_released)
        yield g.pair(f"ek_frames_val_{name}", _frames(kept, clip, random.Random(0))[0])
    count = len(g["ek_frames_train_released"])
    clip = AnticipationClip(num_frames=size, seconds=(0.25, 1.75), anchor=(0.0, 0.25))
    generator = random.Random(g.facts["parts"]["vjepa2"]["config"]["seed"])
    frames, drawn = _frames(known_actions(train, classes)[:count], clip, generator)
    yield g.pair("ek_frames_train_released", frames)
    yield g.pair("ek_train_random_time_point", drawn)


def anticipation(g: Golden) -> Pairs:
    """Tokens of the future, the probe and its loss."""
    c, file = g.facts["parts"]["vjepa2"]["config"], g.folder / "vjepa2_layout.pt"
    encoder = g.placed(load_published(file, "target_encoder", num_heads=c["heads"]))
    predictor = g.placed(load_published(file, "predictor", num_heads=c["ph"]))
    pixels = s.normalise_pixels(g["anticipation_clips_u8"], next(encoder.parameters()))
    config = FutureConfig(fps=c["fps"])
    variants = {
        "": config,
        "_two_steps": replace(config, num_steps=2),
        "_predictor_only": replace(config, parts="predictor"),
        "_four_frames": replace(config, num_output_frames=4),
    }
    tokens = {
        name: anticipation_tokens(encoder, predictor, pixels, g["anticipation_seconds"], variant)
        for name, variant in variants.items()
    }
    for name, value in tokens.items():
        yield g.pair(f"anticipation_tokens{name}", value)
    (probe,) = load_anticipation_probes(g.folder / "ek100_probe_layout.pt", c["ek_heads"])
    for target, logits in g.placed(probe)(tokens[""]).items():
        yield g.pair(f"anticipation_logits_{target}", logits)
        loss = focal_loss(logits, g[f"anticipation_labels_{target}"])
        yield g.pair(f"anticipation_focal_{target}", loss)


def recall(g: Golden) -> Pairs:
    """Mean class recall, with and without the restriction to valid classes."""
    given = g.arrays["recall_logits"], g.arrays["recall_labels"]
    top5 = class_mean_recall(*given)
    valid = class_mean_recall(*given, valid_classes=g.arrays["recall_valid_classes"])
    found = {
        "recall_at_5": top5.mean_class_recall,
        "recall_accuracy": top5.accuracy,
        "recall_at_5_valid_only": valid.mean_class_recall,
        "recall_at_1": class_mean_recall(*given, k=1).mean_class_recall,
    }
    for name, value in found.items():
        yield g.pair(name, torch.tensor(value, dtype=torch.float64))


FAMILIES = tuple(
    ("golden_perception", family)
    for family in (surprises, intphys2, metrics, epic_kitchens, anticipation, recall)
)
