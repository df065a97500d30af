"""Select the clips of each step, and prefetch them during the previous step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldmodel.errors import ConfigError

Batch = dict[str, Tensor]


def batch_indices(num_items: int, batch_size: int, step: int, seed: int) -> np.ndarray:
    """Return the clip indices of a global batch, from concatenated shuffled epochs.

    The result depends on the seed and the step alone, so a resumed run sees the same batches.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = positions // num_items
    out = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        out[here] = _order(num_items, seed, int(epoch))[positions[here] % num_items]
    return out


@functools.lru_cache(maxsize=2)
def _order(num_items: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of the clips in an epoch, which takes longer to draw than some steps."""
    order = np.random.default_rng([seed, epoch]).permutation(num_items)
    order.flags.writeable = False
    return order


def require_divisible(batch_size: int, accumulate: int, ranks: int) -> None:
    """Check that a batch divides into equal parts for all micro-batches and processes.

    Raises:
        ConfigError: The batch is not divisible.
    """
    if batch_size % (accumulate * ranks):
        raise ConfigError(
            f"batch_size={batch_size} is not divisible by accumulate={accumulate} x {ranks} "
            "processes: choose a multiple"
        )


def micro_batch(
    batch_size: int, micro: int, accumulate: int, rank: int = 0, ranks: int = 1
) -> slice:
    """Return the slice of the global batch for one process and micro-batch."""
    require_divisible(batch_size, accumulate, ranks)
    size = batch_size // (accumulate * ranks)
    start = (micro * ranks + rank) * size
    return slice(start, start + size)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; to CUDA, from page-locked memory and without waiting for the end.

    Work that is queued on the device later sees the whole tensor.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> Batch:
    """Copy a batch to a device, as `sent` does."""
    return {name: sent(value, device) for name, value in batch.items()}


def use_device(device: torch.device) -> None:
    """Make a CUDA device the current one of this thread; new threads start with the first one."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


@dataclass(frozen=True, kw_only=True)
class Read:
    """A micro-batch, and the end of the work on the device that makes it."""

    batch: Batch
    done: torch.cuda.Event | None = None
    """Event behind the copies; None on a CPU."""

    def on(self, device: torch.device) -> Batch:
        """Return the batch for the device's current stream, which waits for the copies.

        The host does not wait. The memory of the batch is used again only after the work that
        this stream has queued by the time that the batch is dropped.
        """
        if self.done is not None:
            current = torch.cuda.current_stream(device)
            current.wait_event(self.done)
            for tensor in self.batch.values():
                if tensor.is_cuda:
                    tensor.record_stream(current)
        return self.batch


class Prefetcher:
    """Reads the next micro-batch in a thread while the current one is trained on, in order.

    On CUDA, copies to the device (and encoding, if `load` encodes) are queued on a stream of their
    own, so that they run beside the current step instead of behind it.
    """

    def __init__(
        self,
        load: Callable[[int, int], Batch],
        accumulate: int,
        steps: int,
        device: torch.device | None = None,
    ) -> None:
        """Read `steps` steps of `accumulate` micro-batches with `load(step, micro)`.

        Args:
            load: Reads a micro-batch. On a device, it reads nothing that training changes.
            accumulate: Number of micro-batches per step.
            steps: Number of steps of the run.
            device: Device that `load` reads to.
        """
        self.load, self.accumulate, self.steps = load, accumulate, steps
        self.device = device or torch.device("cpu")
        self.stream: torch.cuda.Stream | None = None
        if self.device.type == "cuda":
            self.stream = torch.cuda.Stream(self.device)
            self.stream.wait_stream(torch.cuda.current_stream(self.device))  # weights that it uses
        self.pool = ThreadPoolExecutor(1, initializer=use_device, initargs=(self.device,))
        self.waiting: dict[tuple[int, int], Future[Read]] = {}

    def _read(self, step: int, micro: int) -> Read:
        if self.stream is None:
            return Read(batch=self.load(step, micro))
        with torch.cuda.stream(self.stream):
            return Read(batch=self.load(step, micro), done=self.stream.record_event())

    def _request(self, step: int, micro: int) -> None:
        if step < self.steps and (step, micro) not in self.waiting:
            self.waiting[step, micro] = self.pool.submit(self._read, step, micro)

    def __call__(self, step: int) -> Iterator[Batch]:
        """Yield the step's micro-batches in order."""
        for micro in range(self.accumulate):
            self._request(step, micro)
            last = micro + 1 == self.accumulate
            self._request(*((step + 1, 0) if last else (step, micro + 1)))
            yield self.waiting.pop((step, micro)).result().on(self.device)

    def close(self, *, wait: bool = True) -> None:
        """Stop reading; by default wait for the batch in progress."""
        self.pool.shutdown(wait=wait, cancel_futures=True)
