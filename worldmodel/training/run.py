"""Run a training from its options: data, task, loop, export, summary and report."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from worldmodel.atomic_io import write_json
from worldmodel.checkpoints.io import Model
from worldmodel.models.kernels import optimize_for_cpu
from worldmodel.models.precision import allow_tf32, autocast
from worldmodel.output_guard import output_guard
from worldmodel.training import launching
from worldmodel.training.batches import Batch, Prefetcher, batch_indices, micro_batch
from worldmodel.training.config import (
    AnyOptions,
    ImagePretrainOptions,
    PostOptions,
    PretrainOptions,
    ShapesPretrainOptions,
    VideoPretrainOptions,
)
from worldmodel.training.distributed import Ranks, process_group
from worldmodel.training.experiment import require_tracker
from worldmodel.training.launching import Summary
from worldmodel.training.loop import Callbacks, Resume, run_loop
from worldmodel.training.macro_options import MacroOptions
from worldmodel.training.metrics import Row, read_rows
from worldmodel.training.report import write_report
from worldmodel.training.resume import Facts, check_resume, run_facts
from worldmodel.training.schedules import warn_if_shortened
from worldmodel.training.task import Task
from worldmodel.training.tasks.images import ImagePretrainTask
from worldmodel.training.tasks.joint import JointTask
from worldmodel.training.tasks.macro import MacroTask
from worldmodel.training.tasks.post import PostTask
from worldmodel.training.tasks.pretrain import PretrainTask
from worldmodel.training.tasks.shapes import ShapesPretrainTask
from worldmodel.training.verdict import as_dict

log = logging.getLogger(__name__)


def train(options: AnyOptions, start: Model | None = None) -> Summary:
    """Train according to the options, in this process or as a job, and wait for the end.

    It writes the model, metrics.jsonl, summary.json, training.html and checkpoints to `run.out`.

    Args:
        options: Options of the run.
        start: Model that `encoder=` names, if its encoder is of a user's class; None loads it.

    Returns:
        Content of summary.json.

    Raises:
        ConfigError: The options are inconsistent with the data or each other.
        DataError: There is no data, or too much of it was rejected.
        TrainingError: Training diverged, the disk is full, or a rank or job failed.
    """
    require_tracker(options.loop.experiment)
    if options.launch.launcher == "here":
        return train_here(options, start)
    job = launching.submit(functools.partial(train_here, start=start), options)
    log.info("job %s, logs in %s", job.job_id, job.paths.folder)
    return launching.wait(job)


def train_here(options: AnyOptions, start: Model | None = None) -> Summary:
    """Train in this process, which may be one of several started by torchrun or a job."""
    with process_group(options.run.device) as ranks:
        guard = nullcontext() if ranks.rank else output_guard(Path(options.run.out))
        with guard:
            return run_task(open_task(options, ranks, start), ranks)


def open_task(options: AnyOptions, ranks: Ranks, start: Model | None = None) -> Task:
    """Open the data and, if any, the encoder selected by the options; see `train`."""
    if options.run.threads:
        torch.set_num_threads(options.run.threads)
    if isinstance(options, ImagePretrainOptions):
        return ImagePretrainTask.open(options, ranks)
    if isinstance(options, ShapesPretrainOptions):
        return ShapesPretrainTask.open(options)
    if isinstance(options, PretrainOptions):
        return PretrainTask.open(options, ranks)
    if isinstance(options, MacroOptions):
        return MacroTask.open(options, ranks, start)
    if isinstance(options, PostOptions):
        return PostTask.open(options, ranks, start)
    return JointTask.open(options, ranks, start)


def run_task(task: Task, ranks: Ranks | None = None) -> Summary:
    """Train an opened task; see `train`."""
    options, ranks = task.options, ranks or Ranks()
    run, loop, launch = options.run, options.loop, options.launch
    clips = task.sources.train
    task.sources.require(loop.batch_size, loop.accumulate, ranks.count)
    if isinstance(options, PostOptions | VideoPretrainOptions):
        warn_if_shortened(options)
    if run.threads:
        torch.set_num_threads(run.threads)
    out, started = Path(run.out), time.perf_counter()
    facts = ranks.from_rank_0(
        {} if ranks.rank else run_facts(options, clips, task.start_modules(), processes=ranks.count)
    )
    folder = str(out / "checkpoints")

    forced: list[str] = []

    def check(saved: Facts | None, step: int) -> list[str]:
        forced[:] = check_resume(saved, facts, options, step=step, where=folder)
        return forced

    torch.manual_seed(run.seed)
    device = ranks.device(run.device)
    log.info("process %d of %d trains on %s", ranks.rank, ranks.count, device)
    model = task.build(device)
    if device.type == "cpu":
        optimize_for_cpu(model)
    elif loop.bf16:
        allow_tf32(device)
    engine = ranks.wrap(model, launch.parallel, task.blocks(), bf16=loop.bf16)
    optimizer = open_optimizer(task, device)

    def load(step: int, micro: int) -> Batch:
        chosen = batch_indices(len(clips), loop.batch_size, step, run.seed)
        share = micro_batch(loop.batch_size, micro, loop.accumulate, ranks.rank, ranks.count)
        return task.load(step, chosen, share)

    def validate() -> Row:
        low = autocast(device, bf16=loop.bf16, weights=torch.float32)
        with ranks.unsharded(engine), low:
            return task.validate()

    def report() -> None:
        write_report(out, options, task.verdict)

    batches = Prefetcher(load, loop.accumulate, loop.last_step, device)
    with ranks.guarded(), _closing(batches):
        run_loop(
            model=model,
            optimizer=optimizer,
            loss_fn=task.losses(engine, device),
            batches=batches,
            learning_rate=task.learning_rate,
            config=loop,
            out=out,
            seed=run.seed,
            clip_norm=options.optimizer.clip_norm,
            ranks=ranks,
            callbacks=Callbacks(
                figures=task.figures,
                validate=validate,
                before_step=task.before_step,
                after_step=task.after_step,
                report=report,
            ),
            resume=Resume(facts=facts, check=check),
            settings=dataclasses.asdict(options),
        )
    weights, seconds = ranks.full_state(model), time.perf_counter() - started
    return _finish(task, ranks, weights, seconds, forced)


def open_optimizer(task: Task, device: torch.device) -> torch.optim.AdamW:
    """Create the optimiser of a built task: one kernel updates all parameters."""
    adam = task.options.optimizer
    return torch.optim.AdamW(
        [dict(group) for group in task.parameter_groups()],
        lr=adam.lr,
        betas=(0.9, adam.beta2),
        fused=True if device.type in ("cuda", "cpu") else None,
    )


@contextmanager
def _closing(batches: Prefetcher) -> Iterator[None]:
    """Stop reading at the end of the block, at once if it raises."""
    try:
        yield
    except BaseException:
        batches.close(wait=False)
        raise
    batches.close()


def _finish(
    task: Task, ranks: Ranks, weights: dict[str, torch.Tensor], seconds: float, forced: list[str]
) -> Summary:
    """Export the model; write and return the summary (empty on ranks above 0)."""
    if ranks.rank:
        return {}
    options, out = task.options, Path(task.options.run.out)
    facts = task.export(out / task.file_name, weights)
    rows = read_rows(out / "metrics.jsonl")
    last = rows[-1] if rows else {}
    summary: Summary = {
        "last": last,
        "verdict": as_dict(task.verdict(rows)),
        "clips": len(task.sources.train),
        "held_out_clips": len(task.sources.held_out),
        "minutes": seconds / 60,
        "processes": ranks.count,
        "forced": forced,
        "options": dataclasses.asdict(options),
        **facts,
    }
    write_json(out / "summary.json", summary)
    task.show(out)
    write_report(out, options, task.verdict)
    return summary
