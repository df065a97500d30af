"""One model for the planners of several clients: calls that fit together are run as one.

Each planner runs in its own thread and waits for its calls. A single thread runs the model: it
takes the oldest call, and with it those of the same shapes that the other planners at work have
made, or make within a short window. With one planner at work a call is run at once, unchanged.

Shapes: B samples, C calls, N tokens, D width, K horizon, S state, A action, H W pixels.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from planning.protocols import ActionSpec, ObservationSpec, Past, StateFrame, WorldModel

Key = tuple[object, ...]


@dataclass(eq=False)  # two calls are never the same; tensors cannot be compared
class _Call:
    """A call that waits: its inputs, each with one row per sample, or with one for all."""

    key: Key | None
    """What must agree for calls to be run together; None runs alone."""
    inputs: tuple[Tensor, ...]
    run: Callable[..., Tensor]
    done: threading.Event = field(default_factory=threading.Event)
    result: Tensor | None = None
    error: BaseException | None = None

    @property
    def rows(self) -> int:
        """Number of rows of the result."""
        return max(len(part) for part in self.inputs)


class BatchedModel:
    """A world model that several threads may call.

    Args:
        world: The model.
        window_s: Longest time that a call waits for others [s].
        max_rows: Number of samples of a joint call.
    """

    def __init__(self, world: WorldModel, window_s: float, max_rows: int) -> None:
        self.world, self.window_s, self.max_rows = world, window_s, max_rows
        self.calls = self.runs = 0
        """Number of calls made by planners, and of runs of the model for them."""
        self._queue: list[_Call] = []
        self._working = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._serve, daemon=True, name="model").start()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Count this thread as a planner at work, whose next call others may wait for."""
        with self._changed:
            self._working += 1
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    @property
    def observation_spec(self) -> ObservationSpec:
        """Observation conventions of the model."""
        return self.world.observation_spec

    @property
    def action_spec(self) -> ActionSpec:
        """Action conventions of the model."""
        return self.world.action_spec

    def preprocess(self, frames_HWC: Tensor) -> Tensor:
        """Resize frames to the model's image size."""
        return self.world.preprocess(frames_HWC)

    def convert_state(self, state_BS: Tensor, frame: StateFrame) -> Tensor:
        """Convert states of `frame` to the model's state frame."""
        return self.world.convert_state(state_BS, frame)

    def encode(self, frames_BHWC: Tensor) -> Tensor:
        """Return tokens [B, N, D], together with those of other planners."""
        key = ("encode", tuple(frames_BHWC.shape[1:]))
        return self._call(key, (frames_BHWC,), self.world.encode)

    def encode_main(self, frames_BHWC: Tensor) -> Tensor:
        """Return tokens [B, N, D] of the main view, together with those of other planners."""
        key = ("encode_main", tuple(frames_BHWC.shape[1:]))
        return self._call(key, (frames_BHWC,), self.world.encode_main)

    def unroll(
        self, z_BND: Tensor, state_BS: Tensor, actions_BKA: Tensor, past: Past | None = None
    ) -> Tensor:
        """Return predicted tokens [B, K, N, D], together with those of other planners."""
        if torch.is_grad_enabled():  # a gradient search: its graph is its own thread's
            return self.world.unroll(z_BND, state_BS, actions_BKA, past)
        if past is not None:  # keys and values of past frames have one row for all samples

            def alone(z_BND: Tensor, state_BS: Tensor, actions_BKA: Tensor) -> Tensor:
                return self.world.unroll(z_BND, state_BS, actions_BKA, past)

            return self._call(None, (z_BND, state_BS, actions_BKA), alone)
        shapes = tuple(tuple(part.shape[1:]) for part in (z_BND, state_BS, actions_BKA))
        return self._call(("unroll", *shapes), (z_BND, state_BS, actions_BKA), self.world.unroll)

    def remember(self, frames_1TND: Tensor, states_1TS: Tensor, actions_1TA: Tensor) -> Past:
        """Return the `past` of `unroll` for T frames before the current one."""
        return self.world.remember(frames_1TND, states_1TS, actions_1TA)

    def _call(
        self, key: Key | None, inputs: tuple[Tensor, ...], run: Callable[..., Tensor]
    ) -> Tensor:
        call = _Call(key, inputs, run)
        with self._changed:
            self._queue.append(call)
            self._changed.notify_all()
        call.done.wait()
        if call.error is not None:
            raise call.error
        assert call.result is not None
        return call.result

    def _take(self) -> list[_Call]:
        """Wait for the next calls that are run together."""
        with self._changed:
            while not self._queue:
                self._changed.wait()
            until = time.monotonic() + self.window_s
            while len(self._queue) < self._working and time.monotonic() < until:
                self._changed.wait(max(0.0, until - time.monotonic()))
            first, rows, taken = self._queue[0], 0, list[_Call]()
            for call in self._queue:
                fits = call is first or (first.key is not None and call.key == first.key)
                if fits and (not taken or rows + call.rows <= self.max_rows):
                    taken.append(call)
                    rows += call.rows
            self._queue = [call for call in self._queue if call not in taken]
            return taken

    def _serve(self) -> None:
        with torch.no_grad():
            while True:
                taken = self._take()
                self.calls, self.runs = self.calls + len(taken), self.runs + 1
                try:
                    self._run(taken)
                except BaseException as error:  # noqa: BLE001 - each planner's thread raises it
                    for call in taken:
                        call.error = error
                for call in taken:
                    call.done.set()

    def _run(self, taken: Sequence[_Call]) -> None:
        if len(taken) == 1:
            taken[0].result = taken[0].run(*taken[0].inputs)
            return
        joint = [
            torch.cat([part.expand(call.rows, *part.shape[1:]) for part, call in column])
            for column in (
                [(call.inputs[i], call) for call in taken] for i in range(len(taken[0].inputs))
            )
        ]
        results = taken[0].run(*joint).split([call.rows for call in taken])
        for call, result in zip(taken, results, strict=True):
            call.result = result
