"""Frozen probes: heads, poolers, tokens of segments and levels, clip sampling, views."""

from __future__ import annotations

import contextlib
import re

import torch
from agreement_golden import Golden, Pairs
from numpy.random import RandomState
from torch import Tensor

from worldmodel.checkpoint import load_published
from worldmodel.checkpoints.published.probes import load_pooler, load_probes
from worldmodel.checkpoints.tensor_file import read_torch
from worldmodel.errors import DataError
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.perception.clip_sampling import ClipSampling, frame_numbers
from worldmodel.perception.heads.grid import cosine_to_zero
from worldmodel.perception.probes.frozen_tokens import average_views, view_tokens
from worldmodel.perception.views import evaluation_views
from worldmodel.specs import IMAGENET_MEAN, IMAGENET_STD

INPUTS = ("vjepa1_probe_tokens", "probe_clips_u8", "picture_u8")
VIEWS = re.compile(r"picture_eval_(?:center|(\d+)views)_(\d+)")
FRAMES = re.compile(r"frames_len(\d+)_fpc(\d+)_step(\d+)_seg(\d+)_(first|random)")


def vjepa1_probes(golden: Golden) -> Pairs:
    """V-JEPA 1: the probe and its average over views."""
    heads, tokens = (
        golden.sizes("parts", "vjepa1", "config", "heads"),
        golden["vjepa1_probe_tokens"],
    )
    probe, *_ = load_probes(golden.folder / "vjepa1_probe_layout.pth.tar", num_heads=heads)
    golden.placed(probe)
    logits = torch.stack([probe(view) for view in tokens])
    yield golden.pair("vjepa1_probe_logits", logits)
    yield golden.pair("vjepa1_probe_probabilities", average_views(logits))


def vjepa1_poolers(golden: Golden) -> Pairs:
    """V-JEPA 1: the poolers with self-attention and of an incomplete block."""
    heads, tokens = (
        golden.sizes("parts", "vjepa1", "config", "heads"),
        golden["vjepa1_probe_tokens"],
    )
    poolers = read_torch(golden.folder / "vjepa1_poolers.pt")
    for key, name in (("depth2", "depth2"), ("incomplete", "incomplete_block")):
        pooler = golden.placed(load_pooler(poolers[f"pooler_{key}"], num_heads=heads))
        yield golden.pair(f"vjepa1_pooler_{name}", pooler(golden.given(tokens[0])))


def vjepa2_probes(golden: Golden) -> Pairs:
    """V-JEPA 2: tokens of the last and of four levels, and all heads of a file on them."""
    sizes = golden.sizes("parts", "vjepa2", "config")
    backbone = load_published(
        golden.folder / "vjepa2_layout.pt",
        "target_encoder",
        num_heads=sizes["heads"],
        image_size=sizes["crop"],
        num_frames=sizes["frames"],
    )
    encoder = golden.placed(VideoEncoder.of(backbone))
    probes = load_probes(
        golden.folder / "probe_multihead_layout.pt", num_heads=sizes["probe_heads"]
    )
    for probe in probes:
        golden.placed(probe)
    clips_KVBTHWC = golden["probe_clips_u8"].permute(0, 1, 2, 4, 5, 6, 3)
    for suffix, levels in (("", ()), ("_multilevel", sizes["out_layers"])):
        tokens = view_tokens(encoder, clips_KVBTHWC, levels)
        yield golden.pair(f"probe_tokens_view0{suffix}", tokens[0])
        logits = torch.stack([torch.stack([probe(view) for view in tokens]) for probe in probes])
        yield golden.pair(f"probe_logits{suffix}", logits)
        average = torch.stack([average_views(head) for head in logits])
        yield golden.pair(f"probe_probabilities{suffix}", average)


def vjepa2_pooler(golden: Golden) -> Pairs:
    """V-JEPA 2: the first head's pooler alone."""
    heads = golden.sizes("parts", "vjepa2", "config", "probe_heads")
    probe, *_ = load_probes(golden.folder / "probe_multihead_layout.pt", num_heads=heads)
    tokens = golden.given(golden["probe_tokens_view0"])
    yield golden.pair("probe_pooled_head0_view0", golden.placed(probe).pooler(tokens))


def clip_frames(golden: Golden) -> Pairs:
    """Frame numbers of clips, at the segments' starts and drawn."""
    seed = golden.sizes("parts", "vjepa2", "config", "seed")
    for name in golden.arrays:
        if found := FRAMES.fullmatch(name):
            length, count, step, segments = map(int, found.groups()[:4])
            sampling = ClipSampling(
                num_frames=count,
                frame_step=step,
                num_segments=segments,
                random=found[5] == "random",
            )
            with contextlib.suppress(DataError):  # a video that is too short is not computed
                numbers = frame_numbers(length, sampling, generator=RandomState(seed))
                yield golden.pair(name, torch.from_numpy(numbers))


def views(golden: Golden) -> Pairs:
    """Evaluation views; their names end with the crop."""
    for name in golden.arrays:
        if found := VIEWS.fullmatch(name):
            count, crop = int(found[1] or 1), int(found[2])
            picture = golden["picture_u8"].cpu()
            yield golden.pair(name, _normalised(evaluation_views(picture, crop, count)))


def _normalised(views_VTHWC: Tensor) -> Tensor:
    mean, std = (torch.tensor(values) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((views_VTHWC.float() / 255 - mean) / std).permute(0, 4, 1, 2, 3)


def schedule(golden: Golden) -> Pairs:
    """Learning rate of a probe: cosine to zero, read after each of the steps."""
    for name in [name for name in golden.arrays if name.startswith("lr_probe_")]:
        steps = len(golden.arrays[name])
        rates = [1e-3 * cosine_to_zero(step + 1, steps) for step in range(steps)]
        yield golden.pair(name, torch.tensor(rates, dtype=torch.float64))


FUNCTIONS = (
    *(vjepa1_probes, vjepa1_poolers, vjepa2_probes, vjepa2_pooler),
    *(clip_frames, views, schedule),
)
FAMILIES = [("golden_perception", family) for family in FUNCTIONS]
