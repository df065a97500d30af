"""A training run as a job of a scheduler, through submitit: Slurm, or processes on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from worldmodel.errors import ConfigError, TrainingError
from worldmodel.training.batches import require_divisible
from worldmodel.training.config import AnyOptions

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

Summary = dict[str, object]
Work = Callable[[AnyOptions], Summary]


class Job(Protocol):
    """The part of submitit's job that is used."""

    job_id: str

    @property
    def paths(self) -> JobPaths:
        """Return the files of the job."""

    def results(self) -> list[Summary]:
        """Wait for all processes; return what each returned."""


class JobPaths(Protocol):
    """Files of a job."""

    folder: Path


def port_of(job_id: str) -> int:
    """Return the port at which the processes of a job meet; other jobs have other ports."""
    return 20_000 + int("".join(re.findall(r"\d+", job_id)) or 0) % 20_000


class TrainingJob:
    """The work of each process of a job; the scheduler says which process it is."""

    def __init__(self, work: Work, options: AnyOptions) -> None:
        """Run `work(options)` in every process."""
        self.work, self.options = work, options

    def __call__(self) -> Summary:
        """Train, and return the run's summary."""
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
        """Queue the same job again when it is preempted or out of time; it then resumes."""
        import submitit

        return submitit.helpers.DelayedSubmission(TrainingJob(self.work, self.options))


def submit(work: Work, options: AnyOptions) -> Job:
    """Hand a run to the scheduler that its options name.

    Raises:
        ConfigError: submitit is not installed, this machine belongs to no cluster, or the batch
            does not divide into the job's processes.
    """
    launch, loop = options.launch, options.loop
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
    more = {"slurm_partition": launch.partition} if launch.partition else {}
    executor.update_parameters(
        name="worldmodel",
        nodes=launch.nodes,
        tasks_per_node=launch.processes_per_node,
        timeout_min=launch.minutes,
        **more,
    )
    return cast(Job, executor.submit(TrainingJob(work, options)))


def last_error(text: str) -> str:
    """Return the exception's line of the traceback that submitit quotes, else the text."""
    lines = re.findall(r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt): .*$", text, re.MULTILINE)
    return lines[-1].rstrip(".") if lines else text


def wait(job: Job) -> Summary:
    """Wait for a job, and return the summary of rank 0.

    Raises:
        TrainingError: a process failed; the message names it and its log.
    """
    import submitit

    try:
        return job.results()[0]
    except (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError) as error:
        raise TrainingError(
            f"Job {job.job_id} failed: {last_error(str(error))}. Logs are in {job.paths.folder}. "
            "Start the same command again to resume from the last checkpoint"
        ) from error
