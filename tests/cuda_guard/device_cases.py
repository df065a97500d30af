"""Cases of the guard about memory traffic, and what it must find: mixed devices, waits, streams."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tests.cuda_guard.fake_streams import StreamOrderError
from tests.cuda_guard.ledger import Ledger
from tests.cuda_guard.models import TOKENS, WIDTH, small_world
from tests.cuda_guard.registry import case


def per_layer(run: Callable[[int, int], int]) -> float:
    """Return the bytes per layer and sample of `run(depth, batch)`, without all that is shared."""
    corners = {(d, b): run(d, b) for d in (2, 3) for b in (8, 16)}
    change = corners[3, 16] - corners[2, 16] - corners[3, 8] + corners[2, 8]
    return change / 8


def moved(ledger: Ledger, *, autocast: bool) -> float:
    """Return the elementwise bytes of a cached step in bfloat16, in numbers of activations."""

    def run(depth: int, batch: int) -> int:
        world = small_world(depth, head=False)
        world.predictor.bfloat16()
        world.cuda()
        z_1ND, state_1S = ledger.randn(1, TOKENS, WIDTH), ledger.randn(1, 7)
        actions = ledger.randn(batch, 2, 7)
        ledger.bytes.clear()
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            world.unroll(z_1ND, state_1S, actions)
        return ledger.elementwise()

    steps, itemsize = 2, 2
    return per_layer(run) / (steps * (TOKENS + 2) * WIDTH * itemsize)


@case
def moved_bf16(ledger: Ledger) -> None:
    ledger.figures["activations"] = moved(ledger, autocast=False)


@case
def moved_autocast(ledger: Ledger) -> None:
    ledger.figures["activations"] = moved(ledger, autocast=True)


@case
def faulty_mix(ledger: Ledger) -> None:
    ledger.randn(3, 4) + torch.zeros(4)


@case
def faulty_wait(ledger: Ledger) -> None:
    """Read from the device, and copy to it, while a graph is captured."""
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        float(ledger.randn(3).sum())
    assert ledger.captured


@case
def faulty_streams(ledger: Ledger) -> None:
    """Use tensors of another stream without waiting, and free one without recording it."""
    side, current = torch.cuda.Stream(), torch.cuda.current_stream()
    with torch.cuda.stream(side):
        x, y, done = ledger.randn(3), ledger.randn(3), side.record_event()
    try:
        x.sum()
    except StreamOrderError:
        ledger.figures["not waited"] = 1
    current.wait_event(done)
    x.sum()
    y.sum()
    y.record_stream(current)
    del x, y
    ledger.figures["freed early"] = ledger.freed_early


@case
def faulty_copy(ledger: Ledger) -> None:
    """Move a bfloat16 activation to float32 and back."""
    x = ledger.randn(8, 16).bfloat16()
    ledger.bytes.clear()
    x.float().bfloat16()
    ledger.figures["activations"] = ledger.elementwise() / (x.numel() * 2)
