"""Families of golden arrays: schedules and mask sizes of V-JEPA 2's pretraining."""

from __future__ import annotations

import re

import torch
from agreement_golden import Golden, Pairs

from worldmodel.training.masking import LONG_RANGE, SHORT_RANGE, published_block_size
from worldmodel.training.schedules import warmup_constant_decay

INPUTS = ()
BLOCKS = re.compile(r"mask_block_sizes_(\d+)x(\d+)f_(short|long)")
KINDS = {"short": SHORT_RANGE, "long": LONG_RANGE}
WARMUP = ANNEAL = 10
"""Steps of the recorded warm-up-stable-decay schedule."""
RATES = re.compile(r"lr_(wsd|linear)_\d+")
KIND_STEPS = {"wsd": (WARMUP, ANNEAL), "linear": (0, None)}


def schedules(g: Golden) -> Pairs:
    """Rates after each step: warm-up, constant part and decay; decay alone (cool-down)."""
    for name in sorted(g.arrays):
        if not (found := RATES.fullmatch(name)):
            continue
        warmup, decay = KIND_STEPS[found[1]]
        steps = len(g[name])
        decay = steps if decay is None else decay
        sizes = {"warmup": warmup, "constant": steps - warmup - decay, "decay": decay}
        rates = [
            warmup_constant_decay(step, start=1e-4, peak=5.25e-4, end=1e-6, **sizes)
            for step in range(1, steps + 1)
        ]
        yield g.pair(name, torch.tensor(rates, dtype=torch.float64))


def block_sizes(g: Golden) -> Pairs:
    """Block sizes of each step; the array's name has the pixels, frames and kind of mask."""
    for name in sorted(g.arrays):
        if not (found := BLOCKS.fullmatch(name)):
            continue
        side, frames, kind = int(found[1]), int(found[2]), found[3]
        grid = (frames // 2, side // 16, side // 16)
        steps = g[name][:, 0].tolist()
        rows = [[step, *published_block_size(grid, KINDS[kind], step)] for step in steps]
        yield g.pair(name, torch.tensor(rows))


FAMILIES = (("golden_perception", schedules), ("golden_perception", block_sizes))
