"""Agreement of I-JEPA's encoders, predictor, targets, masks and schedules."""

from __future__ import annotations

import re

import torch
from agreement_golden import Golden, Pairs
from torch import Tensor

from worldmodel.checkpoint import load_published
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.training.image_masking import ImageIds, block_sizes
from worldmodel.training.image_objective import ImageObjective
from worldmodel.training.image_options import ImageMask
from worldmodel.training.schedules import warmup_cosine

INPUTS = ("ijepa_image_u8", "ijepa_image_tall_u8", "ijepa_mask_*")
FILE = "ijepa_layout.pth.tar"
ENCODERS = ("encoder", "target_encoder")


def part(g: Golden, name: str) -> torch.nn.Module:
    """Load a part of the layout."""
    c = g.sizes("parts", "ijepa", "config")
    sizes = {"num_heads": c["heads"], "image_size": c["img"]}
    return g.placed(load_published(g.folder / FILE, name, **sizes))


def images(g: Golden, name: str) -> Tensor:
    """Return images [B, H, W, 3] of an array [B, 3, H, W]."""
    return g[name].permute(0, 2, 3, 1)


def features(g: Golden) -> Pairs:
    """Encoder and target encoder."""
    encoder, target = (g.placed(VideoEncoder.of(part(g, n))) for n in ENCODERS)
    clip = images(g, "ijepa_image_u8").unsqueeze(1)
    yield g.pair("ijepa_encoder_tokens", encoder.encode_clip(clip))
    tokens = target.encode_clip(clip)
    yield g.pair("ijepa_target_tokens", tokens)
    yield g.pair("ijepa_image_feature", tokens.mean(1))


def tall_features(g: Golden) -> Pairs:
    """Target encoder on images of another size."""
    target = g.placed(VideoEncoder.of(part(g, "target_encoder")))
    tall = images(g, "ijepa_image_tall_u8").unsqueeze(1)
    yield g.pair("ijepa_target_tokens_tall_transformers", target.encode_clip(tall))


def objective(g: Golden) -> Pairs:
    """Context, predictions, targets and loss of given masks."""
    names = ("encoder", "predictor", "target_encoder")
    encoder, predictor, target = (part(g, name) for name in names)
    model = ImageObjective(encoder, predictor, target)
    ids = ImageIds(context=g["ijepa_mask_context"], targets=g["ijepa_mask_targets"])
    pixels = g.placed(VideoEncoder.of(target)).pixels(images(g, "ijepa_image_u8"))
    yield g.pair("ijepa_context_tokens", encoder(pixels.unsqueeze(2), ids.context))
    yield g.pair("ijepa_predicted", model.predict(pixels, ids))
    yield g.pair("ijepa_targets", model.targets(pixels, ids))
    yield g.pair("ijepa_loss_smooth_l1", model.loss(pixels, ids).double())


def masks(g: Golden) -> Pairs:
    """Block sizes of every step, for the patch and image size in the array's name."""
    for name in g.arrays:
        if found := re.fullmatch(r"ijepa_block_sizes_vit[a-z]+(\d+)_(\d+)", name):
            side = int(found[2]) // int(found[1])
            steps = g[name][:, 0].tolist()
            sizes = [block_sizes((side, side), ImageMask(), step) for step in steps]
            rows = [
                [step, *target, *seen] for step, (target, seen) in zip(steps, sizes, strict=True)
            ]
            yield g.pair(name, torch.tensor(rows))


def schedules(g: Golden) -> Pairs:
    """Learning rates and weight decay of the published schedulers."""
    rates = {"start": 2e-4, "peak": 1e-3, "end": 1e-6, "warmup": 10}
    decays = {"start": 0.04, "peak": 0.04, "end": 0.4, "warmup": 0}
    for prefix, shape in (("ijepa_lr_", rates), ("ijepa_wd_", decays)):
        for name in [n for n in g.arrays if n.startswith(prefix)]:
            total = len(g[name])
            values = [warmup_cosine(step, total=total, **shape) for step in range(1, total + 1)]
            yield g.pair(name, torch.tensor(values, dtype=torch.float64))


FUNCTIONS = (features, tall_features, objective, masks, schedules)
FAMILIES = tuple(("golden_perception", f) for f in FUNCTIONS)
