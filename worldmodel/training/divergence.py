"""End a run whose loss diverges, and save the batch that it diverged at."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldmodel.atomic_io import atomic_file
from worldmodel.errors import TrainingError
from worldmodel.training.batches import Batch

MAX_LOSS = 1e4
"""Loss above which the run stops and saves its batch, as it does at NaN."""


class DivergenceCheck:
    """Checks the loss of every micro-batch.

    On a CPU a loss is read at once, before its gradients. On another device that would make the
    device wait for the host, so that the first bad loss is remembered there, and its numbers are
    given to `settle` before anything that depends on it is written.

    Args:
        out: Folder for the bad batch.
        batches: Reads the micro-batches of a step again.
        deferred: Whether to remember losses instead of reading them at once.
    """

    def __init__(
        self, out: Path, batches: Callable[[int], Iterator[Batch]], *, deferred: bool
    ) -> None:
        self.out, self.batches, self.deferred = out, batches, deferred
        self.first_2: Tensor | None = None
        """Number of the step, from 1, and micro-batch of the first bad loss; 0 without one."""
        self.value: Tensor | None = None
        """The first bad loss."""

    def add(self, loss: Tensor, batch: Batch, step: int, micro: int) -> None:
        """Check a loss at once or, if checks are deferred, remember the first bad one.

        Raises:
            TrainingError: The loss is not finite or too large, and checks are not deferred.
        """
        value = loss.detach()
        if not self.deferred:
            if not is_converging(float(value)):
                raise self._error(float(value), batch, step)
            return
        numbers = [torch.full_like(value, n, dtype=torch.long) for n in (step + 1, micro)]
        if self.first_2 is None or self.value is None:
            self.first_2, self.value = torch.zeros_like(torch.stack(numbers)), value
        good = (value.isfinite() & (value < MAX_LOSS)) | (self.first_2[0] > 0)
        self.first_2 = torch.where(good, self.first_2, torch.stack(numbers))
        self.value = torch.where(good, self.value, value)

    def remembered(self) -> Tensor | None:
        """Return the numbers for `settle` [3] float64, on the device; None if there are none."""
        if self.first_2 is None or self.value is None:
            return None
        return torch.cat([self.first_2.double(), self.value.double().reshape(1)])

    def settle(self, numbers: Sequence[float] | None = None) -> None:
        """Judge what was remembered.

        Args:
            numbers: What `remembered` returned, read from the device; None reads it now.

        Raises:
            TrainingError: An earlier loss was not finite or too large.
        """
        if numbers is None:
            held = self.remembered()
            numbers = [] if held is None else held.tolist()
        step, micro = (int(numbers[0]) - 1, int(numbers[1])) if numbers else (-1, 0)
        if step < 0:
            return
        batch = next(itertools.islice(self.batches(step), micro, None))
        raise self._error(numbers[2], batch, step)

    def _error(self, value: float, batch: Batch, step: int) -> TrainingError:
        replay = self.out / f"diverged-step-{step}.pt"
        try:
            with atomic_file(replay) as part:
                torch.save(batch, part)
            saved = f"is saved in {replay}"
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            saved = f"could not be saved in {replay} ({error})"
        wrong = [name for name, part in batch.items() if not _is_finite(part)]
        advice = "lower the learning rate, or check the data in it"
        if wrong:
            advice = f"its {' and '.join(wrong)} hold NaN or infinity: fix the data"
        return TrainingError(
            f"The loss is {value} at step {step}; allowed: finite and below {MAX_LOSS:g}. The "
            f"batch {saved}: {advice}"
        )


def is_converging(loss: float) -> bool:
    """Return whether a loss is finite and below the maximum."""
    return math.isfinite(loss) and loss < MAX_LOSS


def _is_finite(part: object) -> bool:
    values = torch.as_tensor(part) if isinstance(part, (Tensor, np.ndarray)) else None
    return values is None or not values.is_floating_point() or bool(values.isfinite().all())
