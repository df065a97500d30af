"""Launch training runs through submitit, on Slurm or as local processes."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from worldmodel.checkpoints.loading import resolve_device
from worldmodel.errors import ConfigError, TrainingError
from worldmodel.training.batches import require_divisible
from worldmodel.training.config import AnyOptions
from worldmodel.training.run_options import LaunchConfig

if TYPE_CHECKING:
    from submitit import Job
    from submitit.helpers import DelayedSubmission

log = logging.getLogger(__name__)
Summary = dict[str, object]
Work = Callable[[AnyOptions], Summary]


def port_of(job_id: str) -> int:
    """Return the rendezvous port of a job's processes, which differs between jobs."""
    return 20_000 + int("".join(re.findall(r"\d+", job_id)) or 0) % 20_000


class TrainingJob:
    """Work of each process of a job."""

    def __init__(self, work: Work, options: AnyOptions) -> None:
        """Set up `work(options)`, to be run in every process."""
        self.work, self.options = work, options

    def __call__(self) -> Summary:
        """Train and return the run's summary."""
        import submitit

        place = submitit.JobEnvironment()
        os.environ.update(
            RANK=str(place.global_rank),
            WORLD_SIZE=str(place.num_tasks),
            LOCAL_RANK=str(place.local_rank),
            MASTER_ADDR=place.hostnames[0],
            MASTER_PORT=str(port_of(place.job_id)),
        )
        return self.work(self.options)

    def checkpoint(self, *_: object) -> DelayedSubmission:
        """Requeue a preempted or timed-out job, which then resumes."""
        import submitit

        return submitit.helpers.DelayedSubmission(TrainingJob(self.work, self.options))


def submit(work: Work, options: AnyOptions) -> Job[Summary]:
    """Submit a run to the scheduler selected by its options.

    Raises:
        ConfigError: submitit is not installed, this machine is not part of a cluster or lacks the
            device, or the batch is not divisible by the job's processes.
    """
    launch, loop = options.launch, options.loop
    if launch.launcher == "local":
        resolve_device(options.run.device)
    processes = launch.nodes * launch.processes_per_node
    require_divisible(loop.batch_size, loop.accumulate, processes)
    try:
        import submitit
    except ImportError as error:
        raise ConfigError("submitit is missing: pip install 'worldmodel[slurm]'") from error
    try:
        executor = submitit.AutoExecutor(Path(options.run.out) / "job", cluster=launch.launcher)
    except RuntimeError as error:
        raise ConfigError(
            f"launcher={launch.launcher} cannot start a job on this machine ({error}) Run the "
            "command on a login node of the cluster, or use launcher=here or launcher=local"
        ) from error
    options = _on_asked_device(options)
    executor.update_parameters(
        name="worldmodel",
        nodes=launch.nodes,
        tasks_per_node=launch.processes_per_node,
        timeout_min=launch.minutes,
        gpus_per_node=gpus_per_node(options),
        **_cluster_parameters(launch),
    )
    return executor.submit(TrainingJob(work, options))


def gpus_per_node(options: AnyOptions) -> int:
    """Return the number of GPUs per machine that a job asks for.

    On this machine it is that of the GPUs here, for submitit hides all others from its processes.
    """
    launch = options.launch
    if options.run.device == "cpu":
        return launch.gpus_per_node or 0
    if launch.launcher == "local":
        return torch.cuda.device_count()
    return launch.processes_per_node if launch.gpus_per_node is None else launch.gpus_per_node


def _on_asked_device(options: AnyOptions) -> AnyOptions:
    """Let a cluster's job that asks for GPUs fail without one, instead of training on a CPU."""
    run = options.run
    if options.launch.launcher != "slurm" or run.device != "auto" or not gpus_per_node(options):
        return options
    on_cuda = dataclasses.replace(run, device="cuda")
    return dataclasses.replace(options, run=on_cuda)  # type: ignore[arg-type]  # same class


def _cluster_parameters(launch: LaunchConfig) -> dict[str, str | int]:
    """Return what a Slurm job asks for besides GPUs."""
    if launch.launcher != "slurm":
        return {}
    memory = f"{launch.mem_gb}GB" if launch.mem_gb else "0"  # Slurm's 0 is all memory
    asked: dict[str, str | int] = {
        "slurm_cpus_per_task": launch.cpus_per_process,
        "slurm_mem": memory,
    }
    return asked | ({"slurm_partition": launch.partition} if launch.partition else {})


def last_error(text: str) -> str:
    """Return the exception's line of the traceback that submitit quotes, else the text."""
    lines = re.findall(r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt): .*$", text, re.MULTILINE)
    return lines[-1].rstrip(".") if lines else text


def wait(job: Job[Summary]) -> Summary:
    """Wait for a job and return the summary of rank 0.

    A signal ends a job on this machine, and leaves a cluster's job alone.

    Raises:
        TrainingError: A process failed; the message names it and its log.
    """
    import submitit

    try:
        return job.results()[0]
    except KeyboardInterrupt:
        if isinstance(job, submitit.LocalJob):
            job.cancel()  # its processes are this machine's; a cluster's job continues
        else:
            log.warning("Job %s continues; `scancel %s` ends it", job.job_id, job.job_id)
        raise
    except (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError) as error:
        raise TrainingError(
            f"Job {job.job_id} failed: {last_error(str(error))}. Logs are in {job.paths.folder}. "
            "Start the same command again to resume from the last checkpoint"
        ) from error
