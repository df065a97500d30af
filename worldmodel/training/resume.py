"""What a checkpoint says of its run, so that a resumed run does not become a mixture of two.

The run's options, a hash of the weights that it started from and a fingerprint of its data are in
each checkpoint. A second run may differ in where it runs and what it reports, but not in what it
computes, unless `resume=force` says so.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from worldmodel.data.clip_source import ClipSource
from worldmodel.data.prepare import encoder_hash
from worldmodel.dotted_names import dotted
from worldmodel.errors import ConfigError
from worldmodel.training.config import AnyOptions
from worldmodel.training.loss_options import RegularizerConfig

log = logging.getLogger(__name__)
Facts = dict[str, object]
"""Dotted name of an option, or `data`, `all data`, `start weights` or `forced` -> value."""
PROBED_CLIPS = 32
"""Number of clips whose content is compared, spread evenly over the data. What all clips are read
from is compared as well: by content where it is hashed anyway, else by size and time."""

FREE_GROUPS = ("launch.", "planning.")
"""Groups of options that do not change what a run computes."""
FREE = (
    "recipe",
    "run.data",
    "run.val",
    "run.out",
    "run.device",
    "run.threads",
    "run.resume",
    "start.encoder",
    "loop.stop_after",
    "loop.accumulate",
    "loop.save_every",
    "loop.log_every",
    "loop.eval_every",
    "loop.val_clips",
    "loop.experiment",
    "clips.cache",
    "clips.links",
    "clips.store",
    "clips.workers",
    "clips.more_data",
    "clips.keep_on",
    "images.workers",
    "images.links",
    "images.max_reject_fraction",
    "clips.make_data",
    "clips.max_reject_fraction",
    "blocks.compile",
    "blocks.checkpoint_activations",
    "probe_frames",
    "cuda_graph",
)
"""Other such options. Data and start weights are compared by content, not by name."""


def option_facts(options: AnyOptions) -> Facts:
    """Return the options that change what a run computes, normalised through JSON."""
    facts = {
        name: value
        for name, value in dotted(dataclasses.asdict(options))
        if name not in FREE and not name.startswith(FREE_GROUPS)
    }
    found: Facts = json.loads(json.dumps(facts))
    return found


def data_fingerprint(source: ClipSource) -> str:
    """Return a hash of the number of clips and of the content of `PROBED_CLIPS` of them."""
    count = len(source)
    chosen = np.unique(np.linspace(0, max(0, count - 1), min(count, PROBED_CLIPS)).astype(np.int64))
    digest = hashlib.sha256(f"{count}".encode())
    for name, values in sorted(source.batch(chosen).items()):
        digest.update(f"{name}{values.dtype}{values.shape}".encode())
        if isinstance(values, torch.Tensor):  # features; numpy has no bfloat16
            values = values.contiguous().view(torch.uint8).numpy()
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()[:16]


def clips_per_statistic(options: AnyOptions, processes: int) -> Facts:
    """Return the number of clips of a variance or covariance, if the loss has one.

    They are computed over the clips that a process loads at once, so `accumulate` and the number of
    processes change them; without them, both only tell where a run is.
    """
    terms = getattr(options, "regularizers", None)
    if not isinstance(terms, RegularizerConfig) or not (terms.variance or terms.covariance):
        return {}
    loop = options.loop
    return {"clips per statistic": loop.batch_size // (loop.accumulate * processes)}


def run_facts(
    options: AnyOptions, source: ClipSource, start: Iterable[nn.Module], *, processes: int = 1
) -> Facts:
    """Return the facts of a run.

    Args:
        options: Options of the run.
        source: Training clips.
        start: Trained modules that the run starts from.
        processes: Number of processes of the run.
    """
    hashes = [encoder_hash(module) for module in start]
    return {
        **option_facts(options),
        **clips_per_statistic(options, processes),
        "data": data_fingerprint(source),
        "all data": source.content_hash(),
        "start weights": " ".join(hashes) or "none",
    }


def differences(saved: Facts, asked: Facts, defaults: Facts) -> list[str]:
    """Return the names of the facts that differ.

    An option that `saved` lacks, since an older version wrote it, counts as its default; one that
    only `saved` has is ignored.
    """
    before = {**defaults, **saved}
    return [name for name, value in asked.items() if name in before and before[name] != value]


def forced_in(facts: Facts) -> list[str]:
    """Return the names of the facts that `resume=force` changed in the run of a checkpoint."""
    names = facts.get("forced", [])
    return [str(name) for name in names] if isinstance(names, list) else []


def check_resume(
    saved: Facts | None, asked: Facts, options: AnyOptions, *, step: int, where: str
) -> list[str]:
    """Check that a run may resume from a checkpoint.

    Args:
        saved: Facts in the checkpoint; None for one of an older version, which has none.
        asked: Facts of this run.
        options: Options of this run.
        step: Step of the checkpoint.
        where: Folder of the checkpoints, for messages.

    Returns:
        Names of the facts that differ, which `resume=force` accepts, and of those that it accepted
        earlier in this run.

    Raises:
        ConfigError: Facts differ; the message lists them.
    """
    if saved is None:
        log.warning(
            "The checkpoint in %s does not say which run it is of: it is not compared", where
        )
        return []
    earlier = forced_in(saved)
    found = differences(saved, asked, option_facts(type(options)()))
    if not found:
        return earlier
    listed = ", ".join(f"{name}: {saved.get(name, 'default')} -> {asked[name]}" for name in found)
    if options.run.resume == "force":
        log.warning("resume=force at step %d in spite of %s", step, listed)
        return sorted({*earlier, *found})
    raise ConfigError(
        f"{where} holds step {step} of another run ({listed}). Give the same options and data, "
        "choose another out=, or accept the change with resume=force, which metrics.jsonl and "
        "summary.json then record"
    )
