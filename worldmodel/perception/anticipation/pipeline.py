"""Action anticipation: tokens of observed and predicted frames, probe, loss and metric.

Source: V-JEPA 2 (arXiv 2506.09985), sec. 6; focal loss: Lin et al. (arXiv 1708.02002).

Shapes: B clips, N encoder tokens, M predicted tokens of a step, D width, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.checked import Checked, between
from worldmodel.checkpoints.container import fill
from worldmodel.checkpoints.published.loading import clean_keys
from worldmodel.checkpoints.tensor_file import read_torch
from worldmodel.errors import CheckpointError, ConfigError, ShapeError
from worldmodel.models.config import ProbeConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.masked_predictor import MaskedPredictor
from worldmodel.models.probe import AttentivePooler

Target = Literal["verb", "noun", "action"]
Parts = Literal["both", "encoder", "predictor"]
"""Whether probes read the encoder's tokens, the predicted ones, or both."""
TARGETS: tuple[Target, ...] = get_args(Target)
"""Targets of classification, in the order of the probe's queries."""


@dataclass(frozen=True, kw_only=True)
class FutureConfig(Checked):
    """Tokens that the probe reads."""

    fps: float = field(default=8.0, metadata=between(1e-3, 1000))
    """Frames per second of the clip."""
    num_output_frames: int = field(default=2, metadata=between(2, 4096))
    """Number of future frames whose tokens are predicted, a multiple of the tubelet."""
    num_steps: int = field(default=1, metadata=between(1, 1024))
    """Number of prediction steps; each step adds its output to the context of the next."""
    parts: Parts = "both"
    """Whether to read the encoder's tokens, the predicted ones, or both."""
    mask_token: int = field(default=1, metadata=between(0, 1024))
    """Index of the mask token, modulo their number; published probes were trained with 1, which
    V-JEPA 2 left at its initial zero."""


def future_ids(
    seconds_B: Tensor, num_context: int, patches: int, tubelet: int, config: FutureConfig
) -> Tensor:
    """Return the token ids [B, M] of the future frames, continuing the clip's ids."""
    skip_B = (seconds_B * config.fps / tubelet).long()
    ids = torch.arange(patches * (config.num_output_frames // tubelet), device=seconds_B.device)
    return num_context + skip_B[:, None] * patches + ids


def _predict(
    predictor: MaskedPredictor,
    x_BND: Tensor,
    ids_BM: Tensor,
    grid: tuple[int, int, int],
    config: FutureConfig,
) -> list[Tensor]:
    """Return the predicted tokens [B, M, D] of each step."""
    context_ids = torch.arange(x_BND.shape[1], device=x_BND.device).expand(len(x_BND), -1)
    token = config.mask_token % predictor.config.num_mask_tokens
    found: list[Tensor] = []
    for _ in range(config.num_steps):
        # The ids do not change: each step is one gap after the newest token of its context.
        new: Tensor = predictor(x_BND, context_ids, ids_BM, token, grid=grid)
        x_BND = torch.cat([x_BND[:, new.shape[1] :], new], dim=1)
        found.append(new)
    return found


def anticipation_tokens(
    encoder: VisionTransformer,
    predictor: MaskedPredictor,
    pixels_BCTHW: Tensor,
    seconds_B: Tensor,
    config: FutureConfig | None = None,
) -> Tensor:
    """Return the tokens that the probe reads.

    Args:
        encoder: The target encoder of a V-JEPA 2 file.
        predictor: The predictor of the same file.
        pixels_BCTHW: Normalised clips.
        seconds_B: Time from the end of each clip to the predicted frames [s].
        config: Choice of tokens; None uses the published one.

    Returns:
        Tokens [B, N + num_steps * M, D]: the clip's tokens, then the predicted ones.

    Raises:
        ShapeError: The numbers of times and clips differ, or the clip is not divisible into
            patches.
        ConfigError: The predictor is not V-JEPA 2's, or an option does not match the model.
    """
    config, sizes = config or FutureConfig(), encoder.config
    _check(predictor, pixels_BCTHW, seconds_B, config.num_output_frames, sizes.tubelet_size)
    x: Tensor = encoder(pixels_BCTHW)
    if config.parts == "encoder":
        return x
    rows, columns = (side // sizes.patch_size for side in pixels_BCTHW.shape[3:])
    grid = (pixels_BCTHW.shape[2] // sizes.tubelet_size, rows, columns)
    seconds_B = seconds_B.to(x.device)
    ids = future_ids(seconds_B, x.shape[1], rows * columns, sizes.tubelet_size, config)
    future = _predict(predictor, x, ids, grid, config)
    return torch.cat(future if config.parts == "predictor" else [x, *future], dim=1)


def _check(
    predictor: MaskedPredictor, clips: Tensor, seconds_B: Tensor, num_output: int, tubelet: int
) -> None:
    if predictor.config.position != "rope" or predictor.config.predict_context:
        raise ConfigError("anticipation needs V-JEPA 2's predictor, which has rotary positions")
    if num_output % tubelet:
        raise ConfigError(f"num_output_frames={num_output}; allowed: a multiple of {tubelet}")
    if seconds_B.shape != clips.shape[:1] or bool((seconds_B < 0).any()):
        raise ShapeError(
            f"seconds have shape {tuple(seconds_B.shape)}; use one of 0 s or more for each of "
            f"the {len(clips)} clips"
        )


class AnticipationProbe(nn.Module):
    """Attentive pooler with a query and a linear classifier for verb, noun and action.

    Variants with fewer targets (action only) have fewer queries.
    """

    def __init__(self, pooler: ProbeConfig, num_classes: Mapping[Target, int]) -> None:
        super().__init__()
        self.targets = tuple(target for target in TARGETS if target in num_classes)
        self.pooler = AttentivePooler(pooler)
        for target in self.targets:
            self.add_module(
                f"{target}_classifier", nn.Linear(pooler.embed_dim, num_classes[target])
            )
        for part in self.pooler.modules():
            if isinstance(part, nn.LayerNorm):
                part.eps = pooler.norm_eps

    def forward(self, tokens_BND: Tensor) -> dict[Target, Tensor]:
        """Map tokens [B, N, D] to logits [B, C] of each target."""
        return self.read(self.pooler(tokens_BND.to(self.pooler.query_tokens.dtype)))

    def read(self, pooled_BQD: Tensor) -> dict[Target, Tensor]:
        """Return the logits [B, C] of each target of pooled vectors [B, Q, D]."""
        return {
            target: self.get_submodule(f"{target}_classifier")(pooled_BQD[:, i])
            for i, target in enumerate(self.targets)
        }


def load_anticipation_probes(path: Path, num_heads: int = 16) -> list[AnticipationProbe]:
    """Load all probes of a published EPIC-KITCHENS-100 file, in eval mode.

    Args:
        path: File with `classifiers`, for example `ek100-vitl-256.pt`.
        num_heads: Number of attention heads, 16 in the published files.

    Raises:
        CheckpointError: The file is damaged or holds no anticipation probe.
        ConfigError: `num_heads` does not divide the probe's width.
    """
    states = read_torch(path).get("classifiers")
    if not isinstance(states, list) or not states:
        raise CheckpointError(f"{path} has no list `classifiers`: it is not a file of probes")
    return [
        _probe(state, num_heads, f"{path} [classifiers][{i}]") for i, state in enumerate(states)
    ]


def trained_parts(path: Path) -> Parts:
    """Return the tokens that the probes of a file were trained on: published ones on both."""
    found: Parts = next((p for p in get_args(Parts) if p == read_torch(path).get("parts")), "both")
    return found


def _probe(state: object, num_heads: int, where: str) -> AnticipationProbe:
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{where} is a {type(state).__name__}, not a dictionary of tensors")
    tensors = clean_keys(state, where)
    query, hidden = (
        tensors.get(f"pooler.{key}")
        for key in ("query_tokens", "cross_attention_block.mlp.fc1.weight")
    )
    classes: dict[Target, int] = {
        t: len(tensors[f"{t}_classifier.weight"])
        for t in TARGETS
        if f"{t}_classifier.weight" in tensors
    }
    if query is None or hidden is None or not classes or query.shape[1] != len(classes):
        raise CheckpointError(
            f"{where} is not an anticipation probe: it has classifiers for {list(classes)}; "
            "needed: a pooler with one query for each"
        )
    dim = query.shape[2]
    blocks = {key.split(".")[2] for key in tensors if key.startswith("pooler.blocks.")}
    config = ProbeConfig(
        embed_dim=dim,
        num_heads=num_heads,
        depth=len(blocks) + 1,
        mlp_ratio=len(hidden) / dim,
        num_queries=len(classes),
    )
    probe = AnticipationProbe(config, classes)
    fill({"": probe}, tensors, where)
    return probe.eval()


def focal_loss(
    logits_BC: Tensor, labels_B: Tensor, *, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Return the sigmoid focal loss against one-hot labels, summed over clips and classes.

    Args:
        logits_BC: Logits of every class.
        labels_B: Long class indices.
        alpha: Weight of the correct class; the others have 1 - alpha.
        gamma: Exponent that reduces the weight of well-classified examples.
    """
    right = F.one_hot(labels_B, logits_BC.shape[1]).bool()
    signed = torch.where(right, logits_BC, -logits_BC)
    weight = torch.where(right, alpha, 1 - alpha) * torch.sigmoid(-signed) ** gamma
    return -(weight * F.logsigmoid(signed)).sum()


@dataclass(frozen=True)
class Recall:
    """Scores of one target [%]."""

    mean_class_recall: float
    """Mean over occurring classes of the fraction of their clips that are hits."""
    accuracy: float
    """Fraction of clips that are hits."""
    num_clips: int
    """Number of scored clips."""
    num_classes: int
    """Number of classes that occur in the labels."""


def class_mean_recall(
    logits_BC: Tensor, labels_B: Tensor, k: int = 5, valid_classes: Tensor | None = None
) -> Recall:
    """Score a whole split; a clip is a hit if its label is among the `k` highest scores.

    Pass every clip once; the released loop counts some clips twice and omits others.

    Args:
        logits_BC: Logits over all training classes.
        labels_B: Long class indices.
        k: Number of guesses.
        valid_classes: Long class indices; scores of other classes are set to 0, and their clips are
            ignored. None uses all classes.

    Raises:
        ShapeError: Logits and labels are inconsistent, or no clip remains.
        ConfigError: `k` exceeds the number of classes.
    """
    if logits_BC.ndim != 2 or labels_B.shape != logits_BC.shape[:1]:
        raise ShapeError(
            f"logits {tuple(logits_BC.shape)}, labels {tuple(labels_B.shape)}; use [B, C] and [B]"
        )
    if not 1 <= k <= logits_BC.shape[1]:
        raise ConfigError(f"k={k}; allowed: 1 to {logits_BC.shape[1]} classes")
    scores_BC = logits_BC.sigmoid()
    if valid_classes is not None:
        valid = torch.zeros(logits_BC.shape[1], dtype=torch.bool, device=labels_B.device)
        valid[valid_classes] = True
        scores_BC, labels_B = (scores_BC * valid)[valid[labels_B]], labels_B[valid[labels_B]]
    if not len(labels_B):
        raise ShapeError("there is no clip to score, or none of a valid class")
    return recall_of_hits((scores_BC.topk(k).indices == labels_B[:, None]).any(1), labels_B)


def recall_of_hits(hits_B: Tensor, labels_B: Tensor) -> Recall:
    """Score a split from the hits of its clips.

    Args:
        hits_B: bool, whether the label of a clip is among the guesses.
        labels_B: Long class indices; at least one.
    """
    counts_C = torch.bincount(labels_B)
    hits_C = torch.bincount(labels_B, hits_B.double())
    occurs = counts_C > 0
    return Recall(
        mean_class_recall=100.0 * float((hits_C[occurs] / counts_C[occurs]).mean()),
        accuracy=100.0 * float(hits_B.double().mean()),
        num_clips=len(labels_B),
        num_classes=int(occurs.sum()),
    )
