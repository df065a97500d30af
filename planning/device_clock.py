"""Time what a device does: it works on after a call has returned."""

from __future__ import annotations

import time

import torch


def clock(device: str | torch.device) -> float:
    """Wait until a CUDA device has done its work; return the time of a monotonic clock [s]."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
