"""Streams of the make-believe device: what is used on a stream must be known to be done there.

Nothing runs on them. Each counts its operations; an event holds a count, and a stream that waits
for it may use what was made until then. A tensor that another stream uses must also be recorded on
it (`record_stream`) before it is freed, or its memory may be used again too early.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from tests.cuda_guard.ledger import Ledger


class StreamOrderError(RuntimeError):
    """A stream used a tensor of another one without waiting for it."""


class Stream:
    """A queue of operations."""

    def __init__(self, streams: Streams) -> None:
        self.streams, self.count = streams, 0
        self.seen: Counter[Stream] = Counter()
        """Stream -> number of its operations that are done before what comes next here."""

    def wait_event(self, event: Event) -> None:
        for stream, count in event.done.items():
            self.seen[stream] = max(self.seen[stream], count)

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event(self.streams)
        event.done = Counter({**self.seen, self: self.count})
        return event

    def wait_stream(self, other: Stream) -> None:
        self.wait_event(other.record_event())

    def synchronize(self) -> None:
        self.streams.ledger.wait("synchronise")


class Event:
    """A place in a queue."""

    def __init__(self, streams: Streams) -> None:
        self.streams = streams
        self.done: Counter[Stream] = Counter()

    def record(self, stream: Stream | None = None) -> None:
        (stream or self.streams.current).record_event(self)

    def synchronize(self) -> None:
        self.streams.ledger.wait("synchronise")

    def elapsed_time(self, _) -> float:
        return 1.0


class Streams:
    """The current stream, and which one made each tensor."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.main = self.current = Stream(self)
        self.written = WeakIdKeyDictionary()
        """Tensor -> stream that wrote it last, and the number of the operation."""
        self.lent = WeakIdKeyDictionary()
        """Tensor of a side stream -> the other streams that use it, and those it is recorded on."""
        self.watched: dict[int, weakref.ref[Tensor]] = {}

    def beside(self) -> str:
        """Return what to add to the name of a copy."""
        return "" if self.current is self.main else " beside the step"

    @contextlib.contextmanager
    def on(self, stream: Stream | None) -> Iterator[None]:
        """Make a stream the current one, as `torch.cuda.stream` does."""
        before, self.current = self.current, stream or self.current
        try:
            yield
        finally:
            self.current = before

    def record(self, tensor: Tensor, stream: Stream) -> None:
        """Stand for `Tensor.record_stream`."""
        if tensor in self.lent:
            self.lent[tensor][1].add(stream)

    def made(self, operands: list[Tensor], results: list[Tensor]) -> None:
        """Note the results of an operation on the current stream."""
        self.current.count += 1
        known = {id(tensor) for tensor in operands}
        for tensor in results:
            if self.current is not self.main or tensor in self.written:
                self.written[tensor] = self.current, self.current.count
            if self.current is not self.main and id(tensor) not in known:
                self._watch(tensor)

    def _watch(self, tensor: Tensor) -> None:
        """Have the ledger told if a side stream's tensor is freed while another stream uses it."""
        users: tuple[set[Stream], set[Stream]] = (set(), set())
        self.lent[tensor], number = users, id(tensor)

        def freed(_: weakref.ref[Tensor]) -> None:
            del self.watched[number]
            if users[0] - users[1]:
                self.ledger.freed_early += 1

        self.watched[number] = weakref.ref(tensor, freed)

    def require_order(self, func: torch._ops.OpOverload, tensors: list[Tensor]) -> None:
        """Check the operands of an operation on the current stream.

        Raises:
            StreamOrderError: another stream wrote one of them, and this one does not wait for it.
        """
        for tensor in tensors:
            stream, count = self.written.get(tensor, (self.current, 0))
            if stream is self.current:
                continue
            if self.current.seen[stream] < count:
                raise StreamOrderError(f"{func} does not wait for the stream of {tensor.shape}")
            if tensor in self.lent:
                self.lent[tensor][0].add(self.current)
