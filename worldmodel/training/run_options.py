"""Options of training runs: folders, loop, optimiser, schedule and processes.

This module does not import torch, so that `--help` is fast. The docstring under a field is its help
text; every number declares its range, and every class validates its values on construction.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError

Experiment = Literal["none", "tensorboard", "trackio", "wandb"]
"""Experiment trackers; see `worldmodel.training.experiment`."""
MAX_STEPS = 1_000_000_000
"""Maximum number of optimiser steps."""


@dataclass(frozen=True, kw_only=True)
class OutputConfig(Checked):
    """Output folder, seed and device of a run."""

    out: str = "runs/train"
    """Folder for checkpoints, metrics, the report and the exported model."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Seed of the initial weights, data order, masks and augmentation."""
    device: str = "auto"
    """Device: auto (CUDA if present), cpu, cuda or cuda:N."""
    threads: int = field(default=0, metadata=between(0, 256))
    """Number of CPU threads (0: torch's default)."""
    resume: Literal["same", "force"] = "same"
    """Whether the checkpoints in `out` must be of a run with the same options and data (same), or
    may be of another one, which the metrics then record (force)."""


@dataclass(frozen=True, kw_only=True)
class RunConfig(OutputConfig):
    """Input and output folders, seed and device of a run."""

    data: str = "runs/data/train"
    """Folder of the training episodes."""
    val: str = "runs/data/val"
    """Folder of the held-out episodes."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Checked):
    """AdamW."""

    lr: float = field(default=1e-3, metadata=between(1e-12, 10))
    """Peak learning rate."""
    weight_decay: float = field(default=0.04, metadata=between(0, 10))
    """Weight decay of matrices; biases and norms have none."""
    beta2: float = field(default=0.98, metadata=between(0, 0.999999))
    """AdamW's second beta."""
    clip_norm: float = field(default=1.0, metadata=between(1e-6, 1e6))
    """Gradient norm above which gradients are clipped."""


@dataclass(frozen=True, kw_only=True)
class TrapezoidConfig(Checked):
    """Learning rate schedule: linear warm-up, constant, linear decay."""

    lr_start: float = field(default=7.5e-5, metadata=between(0, 10))
    """Learning rate at the first step."""
    lr_end: float = field(default=0.0, metadata=between(0, 10))
    """Learning rate at the last step."""
    warmup: int = field(default=4500, metadata=between(0, MAX_STEPS, "steps"))
    """Number of warm-up steps from lr_start to lr."""
    decay: int = field(default=4500, metadata=between(0, MAX_STEPS, "steps"))
    """Number of final steps from lr to lr_end (0: constant lr)."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig(Checked):
    """Length, batch size and logging intervals of a run."""

    steps: int = field(default=12000, metadata=between(1, MAX_STEPS, "steps"))
    """Number of optimiser steps of the whole run, which sets the schedule."""
    stop_after: int = field(default=0, metadata=between(0, MAX_STEPS, "steps"))
    """Stop after this many steps without changing the schedule (0: run to the end)."""
    batch_size: int = field(default=64, metadata=between(1, 1_000_000, "clips"))
    """Number of clips per optimiser step, over all processes."""
    accumulate: int = field(default=1, metadata=between(1, 1_000_000))
    """Number of micro-batches per optimiser step, to save memory. Batch statistics (variance,
    covariance) are computed per micro-batch."""
    bf16: bool = True
    """Compute in bfloat16 by autocast; weights stay float32."""
    save_every: int = field(default=500, metadata=between(1, MAX_STEPS, "steps"))
    """Number of steps between checkpoints."""
    log_every: int = field(default=50, metadata=between(1, MAX_STEPS, "steps"))
    """Number of steps between rows of metrics.jsonl."""
    eval_every: int = field(default=500, metadata=between(1, MAX_STEPS, "steps"))
    """Number of steps between validations, each of which is a row of metrics.jsonl."""
    val_clips: int = field(default=256, metadata=between(1, 1_000_000, "clips"))
    """Number of held-out clips per validation."""
    experiment: Experiment = "none"
    """Tracker that gets the metrics as well, in groups train/ and val/: TensorBoard in
    out/tensorboard, or trackio or W&B (packages of their own), stored on this machine."""

    @property
    def last_step(self) -> int:
        """Return the number of steps after which the loop ends."""
        return min(self.stop_after, self.steps) if self.stop_after else self.steps


@dataclass(frozen=True, kw_only=True)
class LaunchConfig(Checked):
    """Processes of a run: this process, those of torchrun, or a scheduler job."""

    launcher: Literal["here", "slurm", "local"] = "here"
    """Where processes run: here (this process, or torchrun's), slurm (a cluster job), or local (the
    same job on this machine)."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Parallelism: ddp replicates the weights in every process, fsdp shards them."""
    nodes: int = field(default=1, metadata=between(1, 4096))
    """Number of machines; requires launcher=slurm."""
    processes_per_node: int = field(default=1, metadata=between(1, 1024))
    """Number of processes per machine, one per GPU; requires launcher=slurm or local."""
    minutes: int = field(default=60, metadata=between(1, 525_600, "minutes"))
    """Time limit of the job; requires launcher=slurm or local."""
    partition: str = ""
    """Slurm partition; requires launcher=slurm."""
    gpus_per_node: int | None = field(default=None, metadata=between(0, 1024))
    """Number of GPUs per machine (default: one per process, none with device=cpu); requires
    launcher=slurm."""
    cpus_per_process: int = field(default=8, metadata=between(1, 4096))
    """Number of CPU cores per process; requires launcher=slurm."""
    mem_gb: int = field(default=0, metadata=between(0, 100_000, "GB"))
    """Memory per machine (0: all that it has); requires launcher=slurm."""

    def __post_init__(self) -> None:
        """Reject job options that the launcher would ignore.

        Raises:
            ConfigError: An option has no effect; the message names it and the launcher that uses
                it.
        """
        super().__post_init__()
        cluster = ("nodes", "partition", "gpus_per_node", "cpus_per_process", "mem_gb")
        unused = {
            "here": (*cluster, "processes_per_node", "minutes"),
            "local": cluster,
            "slurm": (),
        }[self.launcher]
        defaults = {item.name: item.default for item in dataclasses.fields(self)}
        for name in unused:
            value = getattr(self, name)
            if value != defaults[name]:
                raise ConfigError(
                    f"{name}={value} has no effect with launcher={self.launcher}: leave it out, or "
                    "set launcher=slurm (processes_per_node and minutes: also launcher=local)"
                )
