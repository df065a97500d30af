"""Train and judge a multi-label head over given boxes: what `worldmodel probe boxes` runs.

Source: V-JEPA (arXiv 2404.08471), appendix on AVA: a linear classifier on features of boxes from
four blocks of the frozen encoder.

Shapes: K boxes, D width, C classes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.atomic_io import write_json
from worldmodel.checkpoints.container import fill, load_tensors, read_description, save_safetensors
from worldmodel.checkpoints.loading import load_encoder
from worldmodel.errors import CheckpointError, DataError
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.perception.boxes.ava import (
    BoxFile,
    Keyframe,
    read_boxes,
    read_classes,
    read_excluded,
)
from worldmodel.perception.boxes.config import BoxOptions
from worldmodel.perception.boxes.features import BoxClips, BoxFeatures, encode_boxes
from worldmodel.perception.boxes.scores import Detections, frame_map
from worldmodel.perception.heads.fitting import Fitting, fit, run_facts
from worldmodel.perception.heads.grid import HeadGrid, HeadSettings
from worldmodel.perception.sharing import OneProcess

WARMUP_EPOCHS, LAST_SHARE = 2, 0.01
"""Epochs of warm-up, and learning rate of the last update as a share of the largest."""
FILE = "boxes.safetensors"


class BoxHead(nn.Module):
    """Linear classifier of a box's features, with a probability of its own for each class."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, num_classes)

    def forward(self, features_K1D: Tensor) -> Tensor:
        """Map features [K, 1, D] to logits [K, C]."""
        logits: Tensor = self.linear(features_K1D[:, 0])
        return logits


def multi_label_loss(logits_KC: Tensor, labels_KC: Tensor) -> Tensor:
    """Return the binary cross-entropy, averaged over classes and summed over boxes."""
    loss = F.binary_cross_entropy_with_logits(logits_KC, labels_KC.float(), reduction="none")
    return loss.mean(1).sum()


def labels_of(keyframes: Sequence[Keyframe], found: BoxFeatures, classes: Sequence[int]) -> Tensor:
    """Return the labels of the boxes that have features, bool [K, C]."""
    column = {number: i for i, number in enumerate(classes)}
    rows = []
    for owner in dict.fromkeys(found.owners.tolist()):
        for actions in keyframes[owner].actions:
            rows.append([number in actions for number in column])
    return torch.tensor(rows)


def run_boxes(options: BoxOptions) -> dict[str, Any]:
    """Train a head, or load one, and judge it; an interrupted run resumes exactly.

    Returns:
        The summary that is also written to summary.json.

    Raises:
        DataError: A file is wrong, or no keyframe can be read.
        CheckpointError: The file of `probe` is none of this command's.
        ConfigError: `out` holds another run.
    """
    names = read_classes(Path(options.actions))
    classes = sorted(names)
    encoder = load_encoder(options.encoder, options.device, options.precision)
    rejected: dict[str, dict[str, str]] = {}
    head: BoxHead
    trained = 0
    if options.train:
        head, trained = _train(options, encoder, names, rejected)
    else:
        head = load_head(Path(options.probe), classes)
    truth = read_boxes(Path(options.val), names)
    skipped = read_excluded(Path(options.excluded)) if options.excluded else set()
    judged = [k for k in truth.keyframes if (k.video, k.time_s) not in skipped]
    given = judged
    if options.detections:
        detected = read_boxes(Path(options.detections), names, options.min_score)
        kept = {(keyframe.video, keyframe.time_s) for keyframe in judged}
        given = [k for k in detected.keyframes if (k.video, k.time_s) in kept]
        rejected["detections"] = detected.rejected
    features = _features(options, encoder, given, "val")
    rejected["val"] = truth.rejected | features.rejected
    found = _detect(head, features, given)
    scored = {k.name: (k.boxes, k.actions) for k in judged if k.name not in features.rejected}
    precisions = frame_map(scored, found, classes)
    if not precisions:
        raise DataError(f"{options.val} has no class of {options.actions} in a readable keyframe")
    summary = {
        "options": asdict(options),
        "mean_average_precision": sum(precisions.values()) / len(precisions),
        "average_precision": {names[n]: precisions[n] for n in classes if n in precisions},
        "classes": len(classes),
        "classes_without_boxes": [names[n] for n in classes if n not in precisions],
        "keyframes": len(scored),
        "boxes": sum(len(boxes) for boxes, _ in scored.values()),
        "trained_on_boxes": trained,
        "ignored_rows": truth.ignored,
        "excluded": len(truth.keyframes) - len(judged),
        "rejected": rejected,
    }
    write_json(Path(options.out) / "summary.json", summary)
    return summary


def _features(
    options: BoxOptions, encoder: FrameEncoder, keyframes: Sequence[Keyframe], name: str
) -> BoxFeatures:
    return encode_boxes(
        Path(options.out) / f"boxes-{name}.h5",
        encoder,
        keyframes,
        Path(options.videos),
        BoxClips(options.num_frames, options.frame_step, options.start_s, options.levels),
        f"{options.encoder} {encoder.dtype}",
    )


def _train(
    options: BoxOptions,
    encoder: FrameEncoder,
    names: dict[int, str],
    rejected: dict[str, dict[str, str]],
) -> tuple[BoxHead, int]:
    """Train a head on annotated boxes and save it; return it with the number of boxes."""
    annotated: BoxFile = read_boxes(Path(options.train), names)
    found = _features(options, encoder, annotated.keyframes, "train")
    rejected["train"] = annotated.rejected | found.rejected
    classes = sorted(names)
    labels = labels_of(annotated.keyframes, found, classes)
    batches = math.ceil(len(labels) / options.batch_size)
    settings = HeadSettings(
        lr=options.lr,
        final_lr=options.lr * LAST_SHARE,
        weight_decay=options.weight_decay,
        warmup_steps=WARMUP_EPOCHS * batches,
    )
    width = found.features.shape[1]
    heads: HeadGrid[Tensor] = HeadGrid(
        lambda: BoxHead(width, len(classes)),
        multi_label_loss,
        (settings,),
        options.epochs * batches,
        options.seed,
    )
    items = [hashlib.sha256(found.features.numpy().tobytes()).hexdigest(), found.owners.tolist()]
    fitting = Fitting(
        heads=heads,
        read=lambda _, numbers: (found.features[numbers][None, :, None], labels[numbers]),
        numbers=torch.arange(len(labels)),
        batches=batches,
        seed=options.seed,
        out=Path(options.out),
        facts=run_facts(asdict(options), [encoder], [items, labels.tolist()]),
        save_every=2**30,
    )
    fit(fitting, OneProcess(), encoder.device)
    (head,) = heads.heads.eval()
    assert isinstance(head, BoxHead)
    tensors = {name: value.cpu() for name, value in head.state_dict().items()}
    notes = {"kind": "boxes", "classes": {str(number): names[number] for number in classes}}
    save_safetensors(Path(options.out) / FILE, tensors, notes)
    return head, len(labels)


def load_head(path: Path, classes: Sequence[int]) -> BoxHead:
    """Load a head that `probe boxes` has trained.

    Raises:
        CheckpointError: The file is damaged, of another kind or of other classes.
    """
    path = path / FILE if path.is_dir() else path
    notes, tensors = read_description(path) or {}, load_tensors(path)
    weight = tensors.get("linear.weight")
    if notes.get("kind") != "boxes" or weight is None or weight.ndim != 2:
        raise CheckpointError(f"{path} is not a head of `worldmodel probe boxes`")
    own = notes.get("classes")
    if not isinstance(own, dict) or list(own) != [str(number) for number in classes]:
        raise CheckpointError(f"{path} is of other classes than actions=: use the same list")
    head = BoxHead(weight.shape[1], len(classes))
    fill({"": head}, tensors, str(path))
    return head.eval()


@torch.no_grad()
def _detect(
    head: BoxHead, features: BoxFeatures, keyframes: Sequence[Keyframe]
) -> dict[str, Detections]:
    """Return the class probabilities of the given boxes, by keyframe.

    Raises:
        CheckpointError: The head takes features of another width.
    """
    width = head.linear.in_features
    if features.features.shape[1] != width:
        raise CheckpointError(
            f"the head takes features of width {width}, the encoder gives "
            f"{features.features.shape[1]}: use the encoder and levels that it was trained on"
        )
    scores_KC = head.cpu()(features.features[:, None]).sigmoid().double().numpy()
    return {
        keyframes[owner].name: Detections(
            keyframes[owner].boxes, scores_KC[(features.owners == owner).numpy()]
        )
        for owner in dict.fromkeys(features.owners.tolist())
    }
