"""Train a grid of linear heads on frozen tokens of images, choose one and judge it on unseen ones.

Shapes: B images, N = R C tokens in rows and columns, D width, K outputs, H W pixels.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from worldmodel.atomic_io import write_json
from worldmodel.checkpoints.loading import load_encoder
from worldmodel.data.episode import rejecting
from worldmodel.errors import ConfigError, DataError
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.preprocess import Preprocess
from worldmodel.perception.dense.config import DenseOptions
from worldmodel.perception.dense.head import (
    FINER,
    DenseHead,
    DepthScore,
    SegmentationScore,
    as_map,
    depth_loss,
    resized_to,
    segmentation_loss,
)
from worldmodel.perception.dense.head_file import HEAD, save_head
from worldmodel.perception.dense.labelled_images import VOID, DenseItem, find_items, read_item
from worldmodel.perception.dense.picture import write_picture
from worldmodel.perception.heads.fitting import Fitting, fit, generator_of, run_facts
from worldmodel.perception.heads.grid import HeadGrid, grid
from worldmodel.perception.sharing import OneProcess


class DenseEncoder:
    """Encodes images, squeezed to one size, to one token a patch."""

    def __init__(self, encoder: FrameEncoder, size: tuple[int, int]) -> None:
        """Prepare images of a height and a width [px].

        Raises:
            ConfigError: The size is not a multiple of a patch.
        """
        patch = encoder.config.encoder.patch_size
        height, width = size
        if height % patch or width % patch:
            raise ConfigError(
                f"images of {height} x {width} px are not a multiple of the encoder's patches of "
                f"{patch} px: set image_size to one"
            )
        self.encoder, self.squeeze = encoder, Preprocess("squeeze", (height, width))
        self.grid = (height // patch, width // patch)

    @torch.no_grad()
    def __call__(self, frame_HWC: Tensor) -> Tensor:
        """Return the tokens of an image [1, N, D] float32, on the encoder's device.

        Raises:
            ConfigError: The encoder does not give one token a patch.
        """
        pixels = self.encoder.pixels(self.squeeze(frame_HWC)[None]).to(self.encoder.dtype)
        tokens = self.encoder.frames_of(pixels).float()
        if tokens.shape[1] != math.prod(self.grid):
            raise ConfigError(
                f"the encoder gives {tokens.shape[1]} tokens for {self.grid} patches; one a patch "
                "is needed (V-JEPA, I-JEPA, DINOv2)"
            )
        return tokens


@dataclass(frozen=True)
class _Seen:
    """Encoded images that can be read."""

    items: list[DenseItem]
    tokens_BND: Tensor
    """float16, on the CPU"""
    truth_BHW: Tensor
    """Truth on a grid `FINER` times finer than the tokens'."""
    classes: int
    """Highest class number of any pixel, and one; 1 for depth."""


def _encode(
    encoder: DenseEncoder,
    items: Sequence[DenseItem],
    options: DenseOptions,
    rejected: dict[str, str],
) -> _Seen:
    """Encode all images once; note those that cannot be read in `rejected`.

    Raises:
        DataError: None can be read.
    """
    kept, tokens, truths, classes = list[DenseItem](), list[Tensor](), list[Tensor](), 1
    for item in items:
        try:
            with rejecting(item.name):
                frame, truth = read_item(item, options.task, options.depth_scale)
        except DataError as error:
            rejected[item.name] = str(error)
            continue
        encoded = encoder(frame).half().cpu()
        if not encoded.isfinite().all():
            rejected[item.name] = "its tokens are not finite as float16"
            continue
        kept.append(item)
        tokens.append(encoded)
        if options.task == "segmentation":
            classes = max(classes, int(truth[truth != VOID].max()) + 1)
        truths.append(_sampled(truth, (FINER * encoder.grid[0], FINER * encoder.grid[1])))
    if not kept:
        raise DataError(f"no image can be read; the first: {next(iter(rejected.values()))}")
    return _Seen(kept, torch.cat(tokens), torch.stack(truths), classes)


def _sampled(truth_HW: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the truth at the centres of a grid's cells."""
    rows, columns = (
        ((torch.arange(n) + 0.5) * side / n).long()
        for n, side in zip(size, truth_HW.shape, strict=True)
    )
    return truth_HW[rows[:, None], columns]


def _new_score(options: DenseOptions, classes: int) -> SegmentationScore | DepthScore:
    return DepthScore() if options.task == "depth" else SegmentationScore(classes)


@torch.no_grad()
def _figures(
    heads: Sequence[nn.Module],
    encoder: DenseEncoder,
    items: Sequence[DenseItem],
    options: DenseOptions,
    classes: int,
    pictures: Path | None = None,
) -> list[SegmentationScore | DepthScore]:
    """Score heads on images at their own resolution."""
    scores = [_new_score(options, classes) for _ in heads]
    for number, item in enumerate(items):
        frame, truth = read_item(item, options.task, options.depth_scale)
        tokens = encoder(frame)
        for head, score in zip(heads, scores, strict=True):
            found = resized_to(head(tokens), truth.shape)[0].cpu()
            score.add(found, truth)
            if pictures is not None and number < options.pictures:
                maps = [truth, as_map(found, options.task)]
                write_picture(pictures / f"{item.name}.png", frame, maps)
    return scores


def _without_image(seen: _Seen, options: DenseOptions, classes: int) -> Tensor:
    """Return the best guess at each place [1, K, H, W] that does not look at the image."""
    if options.task == "depth":
        mean_HW = seen.truth_BHW.nanmean(0)
        return torch.where(mean_HW.isfinite(), mean_HW, seen.truth_BHW.nanmean())[None, None]
    counts = [(seen.truth_BHW == k).sum(0) for k in range(classes)]
    return torch.stack(counts)[None].float()


class _Constant(nn.Module):
    """A head that gives the same prediction for all tokens."""

    def __init__(self, found_1KHW: Tensor) -> None:
        super().__init__()
        self.found = found_1KHW

    def forward(self, tokens_BND: Tensor) -> Tensor:
        return self.found


def _scale(truth_BHW: Tensor) -> tuple[float, float]:
    known = truth_BHW[truth_BHW.isfinite()].double()
    return float(known.mean()), max(1e-6, float(known.std()))


def train_dense(options: DenseOptions) -> dict[str, Any]:
    """Train the heads, choose one and judge it; an interrupted run resumes exactly.

    Returns:
        The summary that is also written to summary.json.

    Raises:
        ConfigError: The encoder or the image size do not suit, or `out` holds another run.
        DataError: No image can be read.
    """
    network = load_encoder(options.encoder, options.device, options.precision)
    side = options.image_size
    encoder = DenseEncoder(network, (side, side) if side else network.image_size)
    rejected: dict[str, dict[str, str]] = {"train": {}, "val": {}}
    found = {
        part: find_items(Path(folder), options.task, rejected[part], options.links)
        for part, folder in (("train", options.train), ("val", options.val))
    }
    seen = _encode(encoder, found["train"], options, rejected["train"])
    unseen = _encode(encoder, found["val"], options, rejected["val"])
    classes = max(seen.classes, unseen.classes)
    order = torch.randperm(len(seen.items), generator=generator_of(options.seed, 0))
    cut = max(1, round(options.choose_share * len(order)))
    if cut >= len(order):
        raise DataError(f"{len(order)} training images are too few to choose a head on some")
    held, fitted = order[:cut].tolist(), order[cut:].sort().values
    fitting = _fitting(options, encoder, seen, fitted, classes)
    fit(fitting, OneProcess(), network.device)
    heads = list(fitting.heads.heads.eval())
    chosen_on = [seen.items[i] for i in held]
    scores = _figures(heads, encoder, chosen_on, options, classes)
    best = max(range(len(heads)), key=lambda i: scores[i].quality())
    out = Path(options.out)
    (judged,) = _figures([heads[best]], encoder, unseen.items, options, classes, out / "pictures")
    blind = _Constant(_without_image(seen, options, classes))
    (guessed,) = _figures([blind], encoder, unseen.items, options, classes)
    settings = fitting.heads.settings[best]
    head = heads[best]
    assert isinstance(head, DenseHead)
    save_head(out / HEAD, head, options.task, options.encoder, network)
    summary = {
        "options": asdict(options),
        "head": asdict(settings),
        "heads": len(heads),
        "classes": classes,
        "trained_on": len(fitted),
        "chosen_on": len(held),
        "chosen": scores[best].figures(),
        "val_items": len(unseen.items),
        "val": judged.figures(),
        "without_image": guessed.figures(),
        "rejected": rejected,
    }
    write_json(out / "summary.json", summary)
    return summary


def _fitting(
    options: DenseOptions, encoder: DenseEncoder, seen: _Seen, fitted: Tensor, classes: int
) -> Fitting[Tensor]:
    is_depth = options.task == "depth"
    scale = _scale(seen.truth_BHW[fitted]) if is_depth else (0.0, 1.0)
    batches = math.ceil(len(fitted) / options.batch_size)
    heads: HeadGrid[Tensor] = HeadGrid(
        lambda: DenseHead(seen.tokens_BND.shape[2], classes, encoder.grid, scale),
        depth_loss if is_depth else segmentation_loss,
        grid(options.rates, options.decays),
        options.epochs * batches,
        options.seed,
    )

    def read(epoch: int, numbers: Tensor) -> tuple[Tensor, Tensor]:
        return seen.tokens_BND[numbers][None].float(), seen.truth_BHW[numbers]

    return Fitting(
        heads=heads,
        read=read,
        numbers=fitted,
        batches=batches,
        seed=options.seed,
        out=Path(options.out),
        facts=run_facts({**asdict(options), "pictures": 0}, [encoder.encoder], _content(seen)),
        save_every=10**9,  # an epoch takes seconds, and its end is saved
    )


def _content(seen: _Seen) -> list[object]:
    """Return what a head is trained on: names, sizes and times of the images, and their truths."""
    facts = [(item.name, item.image.stat()) for item in seen.items]
    truths = hashlib.sha256(seen.truth_BHW.numpy().tobytes()).hexdigest()[:16]
    return [truths, *([name, stat.st_size, stat.st_mtime_ns] for name, stat in facts)]
