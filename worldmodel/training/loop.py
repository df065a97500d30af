"""The training loop: exact resume, atomic checkpoints, metrics, and a stop before a run is lost.

Data order is a pure function of (seed, step), so a run that was killed and started again with the
same command sees the same batches, and N ranks share one global batch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from worldmodel.errors import CheckpointError, TrainingError

log = logging.getLogger(__name__)

Batch = dict[str, Tensor]


class Store(Protocol):
    """Where the checkpoints of many ranks go."""

    def save(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write a step."""
        ...

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Load the newest step; 0 when there is none."""
        ...


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Length, precision and bookkeeping of a run."""

    steps: int
    seed: int = 0
    clip_norm: float = 1.0
    """Largest gradient norm."""
    accumulate: int = 1
    """Micro-batches of one optimiser step."""
    bf16: bool = True
    save_every: int = 500
    keep: int = 2
    """Checkpoints kept."""
    log_every: int = 20
    max_loss: float = 1e4
    """Above this (or NaN) the run stops and saves its batch."""
    tensorboard: bool = False


def batch_indices(num_items: int, batch_size: int, step: int, seed: int) -> np.ndarray:
    """Indices of a global batch: shuffled epochs laid end to end, a function of seed and step."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = positions // num_items
    out = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs):
        order = np.random.default_rng([seed, int(epoch)]).permutation(num_items)
        here = epochs == epoch
        out[here] = order[positions[here] % num_items]
    return out


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save_state(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write a checkpoint whole or not at all: temporary file, fsync, hash beside it, rename.

    Raises:
        TrainingError: the disk is full or refuses; nothing older is touched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:08d}.pt"
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        path.with_suffix(".sha256").write_text(file_digest(part), encoding="ascii")
        part.replace(path)
        sync_folder(folder)
    except (OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        raise TrainingError(
            f"Cannot write the checkpoint of step {step} to {folder}: {error}. Free space there "
            "and start again with the same command: it goes on from the last checkpoint"
        ) from error
    for old in sorted(folder.glob("step-*.pt"))[:-keep]:
        old.unlink()
        old.with_suffix(".sha256").unlink(missing_ok=True)
    return path


def load_latest(folder: Path) -> dict[str, Any] | None:
    """Newest whole checkpoint; a torn one is named and the one before it used.

    Raises:
        CheckpointError: there are checkpoints and none is whole.
    """
    paths = sorted(folder.glob("step-*.pt"), reverse=True)
    for path in paths:
        digest = path.with_suffix(".sha256")
        if digest.is_file() and digest.read_text(encoding="ascii") == file_digest(path):
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            return state
        log.warning("%s is torn (its hash differs); trying the one before it", path)
    if paths:
        raise CheckpointError(
            f"None of the {len(paths)} checkpoints in {folder} is whole; "
            "delete the folder to begin anew"
        )
    return None


class LocalStore:
    """One process's checkpoints: weights, optimiser, generator and step in one file."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def save(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write a step whole or not at all; see `save_state`."""
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "step": step,
        }
        save_state(self.folder, step, state, self.keep)

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Load the newest whole step; 0 when there is none."""
        state = load_latest(self.folder)
        return 0 if state is None else self.restore(state, model, optimizer)

    def restore(
        self, state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> int:
        """Put a loaded checkpoint into place; its step."""
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        return int(state["step"])


class MetricsLog:
    """JSON lines, cut back to the step resumed from so that no step stands twice."""

    def __init__(self, path: Path, resume_step: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        kept = [x for x in lines if x.endswith("}") and json.loads(x)["step"] < resume_step]
        part = path.with_suffix(".part")  # a run killed in here must not lose the rows
        part.write_text("".join(f"{x}\n" for x in kept), encoding="utf-8")
        part.replace(path)
        self.file = path.open("a", encoding="utf-8")

    def write(self, row: dict[str, Any]) -> None:
        """Append one row and hand it to the operating system."""
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (called by runs, never at import)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - third parties may draw from it
    torch.manual_seed(seed)


def _check(loss: Tensor, batch: Batch, step: int, out: Path, config: LoopConfig) -> float:
    value = float(loss.detach())
    if math.isfinite(value) and value < config.max_loss:
        return value
    replay = out / f"diverged-step-{step}.pt"
    torch.save({k: v for k, v in batch.items() if isinstance(v, Tensor)}, replay)
    raise TrainingError(
        f"The loss is {value} at step {step} (allowed: finite, under {config.max_loss:g}). The "
        f"batch is saved in {replay}; lower the learning rate or look at the data it holds"
    )


def _gradients(
    loss_fn: Callable[[Batch, int], dict[str, Tensor]],
    source: Iterator[Batch],
    step: int,
    out: Path,
    config: LoopConfig,
    device: torch.device,
) -> tuple[dict[str, float], dict[str, float]]:
    """Accumulate gradients over a step's micro-batches; mean of each part, and the time waited."""
    parts: dict[str, float] = {}
    waited, seen = 0.0, 0
    for _ in range(config.accumulate):
        start = time.perf_counter()
        batch = next(source)
        waited += time.perf_counter() - start
        seen += len(next(iter(batch.values())))
        autocast = torch.autocast(device.type, torch.bfloat16) if config.bf16 else nullcontext()
        with autocast:
            losses = loss_fn(batch, step)
        _check(losses["loss"], batch, step, out, config)
        (losses["loss"] / config.accumulate).backward()  # type: ignore[no-untyped-call]
        for name, value in losses.items():
            parts[name] = parts.get(name, 0.0) + float(value.detach()) / config.accumulate
    return parts, {"waited": waited, "seen": seen}


def run_loop(
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable[[Batch, int], dict[str, Tensor]],
    batches: Callable[[int], Iterator[Batch]],
    learning_rate: Callable[[int], float],
    config: LoopConfig,
    out: Path,
    on_log: Callable[[int], dict[str, float]] | None = None,
    after_step: Callable[[int], None] | None = None,
    store: Store | None = None,
) -> dict[str, float]:
    """Train from the last checkpoint in `out` (or from the start) to `config.steps`.

    Args:
        model: holds all that is saved; frozen parts must not be in it or carry no gradient.
        optimizer: its groups may hold `lr_scale`, a factor on the schedule.
        loss_fn: micro-batch and step -> {"loss": total, part: value, ...}.
        batches: step -> the step's micro-batches, in order.
        learning_rate: step -> rate.
        config: length and bookkeeping.
        out: folder for metrics.jsonl and checkpoints/.
        on_log: extra figures for a logged step.
        after_step: called when a step is done (moving averages).
        store: checkpoints of many ranks; None: one process's own, in out/checkpoints.

    Returns:
        The last logged row.

    Raises:
        TrainingError: divergence or a disk that cannot take the checkpoint.
    """
    seed_everything(config.seed)
    store = store or LocalStore(out / "checkpoints", config.keep)
    first = store.load(model, optimizer)
    if first:
        log.info("resuming at step %d of %d", first, config.steps)
    metrics = MetricsLog(out / "metrics.jsonl", first)
    board = _board(out) if config.tensorboard else None
    row: dict[str, Any] = {}
    device = next(model.parameters()).device
    bar = tqdm(range(first, config.steps), initial=first, total=config.steps, unit="step")
    model.train()
    waited, seen, since, logged = 0.0, 0, time.perf_counter(), first - 1
    for step in bar:
        rate = learning_rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        optimizer.zero_grad(set_to_none=True)
        parts, micro = _gradients(loss_fn, batches(step), step, out, config, device)
        waited, seen = waited + micro["waited"], seen + int(micro["seen"])
        norm = nn.utils.clip_grad_norm_(
            [p for p in model.parameters() if p.grad is not None], config.clip_norm
        )
        optimizer.step()
        if after_step is not None:
            after_step(step)
        last = step + 1 == config.steps
        if step % config.log_every == 0 or last:
            span = max(1e-9, time.perf_counter() - since)
            row = {"step": step, "lr": rate, "grad_norm": float(norm), **parts}
            row |= {"samples_per_s": seen / span, "data_wait": waited / span}
            row["eta_s"] = (config.steps - 1 - step) * span / (step - logged)
            row |= on_log(step) if on_log else {}
            metrics.write(row)
            if board is not None:
                for name, value in row.items():
                    board.add_scalar(name, value, step)
            bar.set_postfix(
                loss=f"{parts['loss']:.4f}", sps=f"{seen / span:.0f}", wait=f"{waited / span:.0%}"
            )
            waited, seen, since, logged = 0.0, 0, time.perf_counter(), step
        if (step + 1) % config.save_every == 0 or last:
            store.save(step + 1, model, optimizer)
    return row


def _board(out: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(out / "tensorboard"))  # type: ignore[no-untyped-call]
