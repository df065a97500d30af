"""Agreement of I-JEPA's encoders, predictor, targets, masks and schedules."""

from __future__ import annotations

import torch
from agreement_golden import Golden, Pairs
from torch import Tensor

from worldmodel.checkpoint import load_published
from worldmodel.models.frame_encoder import VideoEncoder

INPUTS = ("ijepa_image_u8", "ijepa_image_tall_u8", "ijepa_mask_*")
FILE = "ijepa_layout.pth.tar"


def part(g: Golden, name: str) -> torch.nn.Module:
    """Load a part of the layout."""
    c = g.facts["parts"]["ijepa"]["config"]
    return load_published(g.folder / FILE, name, num_heads=c["heads"], image_size=c["img"])


def images(g: Golden, name: str) -> Tensor:
    """Return images [B, H, W, 3] of an array [B, 3, H, W]."""
    return g[name].permute(0, 2, 3, 1)


def features(g: Golden) -> Pairs:
    """Encoder and target encoder, also on images of another size."""
    encoder, target = (VideoEncoder.of(part(g, n)) for n in ("encoder", "target_encoder"))
    clip = images(g, "ijepa_image_u8").unsqueeze(1)
    yield g.pair("ijepa_encoder_tokens", encoder.encode_clip(clip))
    tokens = target.encode_clip(clip)
    yield g.pair("ijepa_target_tokens", tokens)
    yield g.pair("ijepa_image_feature", tokens.mean(1))
    tall = images(g, "ijepa_image_tall_u8").unsqueeze(1)
    yield g.pair("ijepa_target_tokens_tall_transformers", target.encode_clip(tall))


FAMILIES = (("golden_perception", features),)
