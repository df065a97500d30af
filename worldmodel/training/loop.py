"""Training loop of all tasks, with exact resume, checkpoints, metrics and divergence check.

The data order depends only on the seed and the step, so a killed and restarted run sees the same
batches, and N ranks share one global batch.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from worldmodel.errors import ConfigError
from worldmodel.models.precision import autocast
from worldmodel.shutdown import deferred_stop, stop
from worldmodel.training.batches import Batch
from worldmodel.training.checkpointing import CheckpointStore, facts_of, step_of
from worldmodel.training.distributed import Ranks, accumulating
from worldmodel.training.divergence import DivergenceCheck
from worldmodel.training.experiment import grouped, open_tracker
from worldmodel.training.metrics import MetricsLog, Row
from worldmodel.training.run_options import LoopConfig
from worldmodel.training.verdict import is_detail

log = logging.getLogger(__name__)

LossFunction = Callable[[Batch], dict[str, Tensor]]
"""Micro-batch -> {"loss": total, part: value, ...}."""


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """Hooks of a task in the training loop."""

    figures: Callable[[int], Row] | None = None
    """Extra training metrics of a logged step."""
    validate: Callable[[], Row] | None = None
    """Metrics on held-out clips, called by every rank."""
    before_step: Callable[[int, torch.optim.Optimizer], None] | None = None
    """Called before each step, for schedules besides the learning rate."""
    after_step: Callable[[int], None] | None = None
    """Called after each step, for moving averages."""
    report: Callable[[], None] | None = None
    """Called on rank 0 after the metrics of a validation are written."""


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - third-party code may draw from it
    torch.manual_seed(seed)


def _gradients(
    loss_fn: LossFunction,
    source: Iterator[Batch],
    step: int,
    check: DivergenceCheck,
    config: LoopConfig,
    device: torch.device,
) -> tuple[dict[str, Tensor], float, int]:
    """Accumulate gradients over micro-batches; return mean losses, waiting time [s], clips.

    The losses stay on the device until they are logged.
    """
    parts: dict[str, Tensor] = {}
    waited, seen = 0.0, 0
    for micro in range(config.accumulate):
        start = time.perf_counter()
        batch = next(source)
        waited += time.perf_counter() - start
        seen += len(next(iter(batch.values())))
        with accumulating(loss_fn, last=micro + 1 == config.accumulate):
            with autocast(device, bf16=config.bf16, weights=torch.float32):
                losses = loss_fn(batch)
            check.add(losses["loss"], batch, step, micro)
            (losses["loss"] / config.accumulate).backward()
        for name, value in losses.items():
            share = value.detach().double() / config.accumulate
            parts[name] = parts[name] + share if name in parts else share
    return parts, waited, seen


class _Logger:
    """Progress bar, metrics.jsonl and experiment tracker of a run."""

    def __init__(
        self,
        out: Path,
        first: int,
        config: LoopConfig,
        ranks: Ranks,
        changed: list[str],
        settings: Mapping[str, object],
    ) -> None:
        self.forced: Row = {f"forced {name}": 1.0 for name in changed}
        self.ranks, self.last_step = ranks, config.last_step
        self.main = ranks.rank == 0
        self.metrics = MetricsLog(out / "metrics.jsonl", first) if self.main else None
        kind = config.experiment if self.main else "none"
        self.tracker = open_tracker(kind, out, first, settings)
        self.logged, self.since = first - 1, time.perf_counter()
        self.waited, self.seen = 0.0, 0

    def count(self, waited_s: float, clips: int) -> None:
        """Add a step's data waiting time [s] and number of clips."""
        self.waited, self.seen = self.waited + waited_s, self.seen + clips

    def close(self) -> None:
        """Write what the tracker still holds back."""
        if self.tracker:
            self.tracker.close()

    def write(self, step: int, row: Row, callbacks: Callbacks, validate: bool) -> Row:
        """Complete and write the metrics of a step, including a validation if due.

        The caller has read the step's losses, so that the device has done all steps so far.
        """
        span = max(1e-9, time.perf_counter() - self.since)
        speed, share = self.seen * self.ranks.count / span, self.waited / span
        row |= {"samples_per_s": speed, "data_wait": share}
        row["eta_s"] = (self.last_step - 1 - step) * span / (step - self.logged)
        row |= self.forced | (callbacks.figures(step) if callbacks.figures else {})
        self.forced = {}
        found = callbacks.validate() if validate and callbacks.validate else {}
        if found:
            shown = {k: round(v, 4) for k, v in found.items() if not is_detail(k)}
            log.info("step %d: %s", step, shown)
        if self.metrics:
            self.metrics.write(row | found)
            if self.tracker:
                self.tracker.log(grouped(row, found), step)
            if found and callbacks.report:
                callbacks.report()
        self.waited, self.seen, self.since, self.logged = 0.0, 0, time.perf_counter(), step
        return row | found


@dataclass(frozen=True, kw_only=True)
class Resume:
    """What a run says of itself in its checkpoints, and how it is compared with them."""

    facts: Mapping[str, object]
    """Facts of this run."""
    check: Callable[[dict[str, object] | None, int], list[str]]
    """Facts and step of a checkpoint -> names of differences to record; raises if refused."""


def _open_checkpoint(
    store: CheckpointStore,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: LoopConfig,
    resume: Resume | None,
) -> tuple[int, list[str]]:
    """Load the newest checkpoint; return its step and the differences to record.

    Raises:
        ConfigError: The checkpoint is of another run, or has more steps than this one.
    """
    path = store.newest()
    if path is None:
        return 0, []
    first = step_of(path)
    if first > config.last_step:
        name = "stop_after" if config.last_step < config.steps else "steps"
        raise ConfigError(
            f"{store.folder} holds step {first}, and {name}={config.last_step} is below: nothing "
            f"is left to train. Raise {name} to {first} or more, or choose another out="
        )
    changed = resume.check(facts_of(path), first) if resume else []
    if resume and changed:
        store.facts = {**resume.facts, "forced": changed}
    store.load(model, optimizer)
    log.info("resuming at step %d of %d", first, config.last_step)
    return first, changed


def run_loop(
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: LossFunction,
    batches: Callable[[int], Iterator[Batch]],
    learning_rate: Callable[[int], float],
    config: LoopConfig,
    out: Path,
    seed: int = 0,
    clip_norm: float = 1.0,
    ranks: Ranks | None = None,
    callbacks: Callbacks | None = None,
    resume: Resume | None = None,
    settings: Mapping[str, object] | None = None,
) -> Row:
    """Train to `config.last_step`, from the last checkpoint in `out` if there is one.

    A signal ends the run after the step in progress, which is saved if that takes less than
    `worldmodel.shutdown.DEFER_S`.

    Args:
        model: Module with everything to save; its frozen parts require no gradient.
        optimizer: Optimiser, whose groups may hold `lr_scale`, a factor on the schedule.
        loss_fn: Computes the losses of a micro-batch.
        batches: Step -> the step's micro-batches, in order.
        learning_rate: Step -> learning rate.
        config: Length, batch size and logging intervals.
        out: Folder for metrics.jsonl and checkpoints/.
        seed: Seed of the random generators at step 0.
        clip_norm: Maximum gradient norm.
        ranks: Rank of this process; None for a single process.
        callbacks: Hooks of the task.
        resume: Comparison with the run of the checkpoint; None compares nothing.
        settings: Options of the run, for the experiment tracker.

    Returns:
        Last logged metrics; empty if no steps remained.

    Raises:
        CheckpointError: Checkpoints exist, but none is complete.
        ConfigError: The checkpoint is of another run, or has more steps than this one.
        Stopped: A signal ended the run.
        TrainingError: The loss diverged, or a checkpoint could not be written.
    """
    ranks, callbacks = ranks or Ranks(), callbacks or Callbacks()
    seed_everything(seed + 1_000_003 * ranks.rank)  # augmentation differs between ranks
    facts = resume.facts if resume else None
    store = CheckpointStore(out / "checkpoints", facts=facts, ranks=ranks)
    first, changed = _open_checkpoint(store, model, optimizer, config, resume)
    last = config.last_step
    device = next(model.parameters()).device
    logger = _Logger(out, first, config, ranks, changed, settings or {})
    check = DivergenceCheck(out, batches, deferred=device.type != "cpu")
    row: Row = {}
    model.train()
    bar = tqdm(range(first, last), initial=first, total=last, unit="step", disable=not logger.main)
    with closing(logger), deferred_stop() as waiting:
        for step in bar:
            rate = learning_rate(step)
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("lr_scale", 1.0)
            if callbacks.before_step:
                callbacks.before_step(step, optimizer)
            optimizer.zero_grad(set_to_none=True)
            parts, waited, seen = _gradients(loss_fn, batches(step), step, check, config, device)
            logger.count(waited, seen)
            live = [p for p in model.parameters() if p.grad is not None]
            norm = nn.utils.clip_grad_norm_(live, clip_norm)
            optimizer.step()
            if callbacks.after_step:
                callbacks.after_step(step)
            end = step + 1 == last
            is_due = end or step % config.eval_every == 0
            if is_due or step % config.log_every == 0:
                means, numbers = ranks.mean({"grad_norm": norm, **parts}, check.remembered())
                check.settle(numbers)
                row = {"step": step, "lr": rate, **means}
                row = logger.write(step, row, callbacks, is_due)
                bar.set_postfix(loss=f"{row['loss']:.4f}", sps=f"{row['samples_per_s']:.0f}")
            stopped = ranks.largest(waiting())
            if (step + 1) % config.save_every == 0 or end or stopped:
                check.settle()
                store.save(step + 1, model, optimizer)
            if stopped and not end:
                stop(stopped)
    return row
