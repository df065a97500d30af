"""The same training run as a Slurm job, through submitit; `local` runs it on this machine."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from worldmodel.errors import ConfigError, TrainingError
from worldmodel.training.tasks.post import PostTrainConfig, posttrain


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """Where the processes run."""

    cluster: Literal["slurm", "local"] = "slurm"
    nodes: int = 1
    processes_per_node: int = 1
    minutes: int = 60
    partition: str = ""
    port: int = 29511
    """Of the first node, where processes find each other."""


class TrainingJob:
    """What each process of the job runs; its ranks come from the scheduler."""

    def __init__(self, options: PostTrainConfig, port: int) -> None:
        names = [field.name for field in dataclasses.fields(PostTrainConfig)]
        self.options = {name: getattr(options, name) for name in names}
        self.port = port

    def __call__(self) -> dict[str, Any]:
        """Train; returns the last row of rank 0's metrics."""
        import submitit

        place = submitit.JobEnvironment()
        os.environ.update(
            RANK=str(place.global_rank),
            WORLD_SIZE=str(place.num_tasks),
            LOCAL_RANK=str(place.local_rank),
            MASTER_ADDR=place.hostnames[0],
            MASTER_PORT=str(self.port),
        )
        row: dict[str, Any] = posttrain(PostTrainConfig(**self.options))["last"]
        return row

    def checkpoint(self, *_: Any) -> Any:
        """Preempted or out of time: the same job goes back into the queue and goes on."""
        import submitit

        return submitit.helpers.DelayedSubmission(
            TrainingJob(PostTrainConfig(**self.options), self.port)
        )


def submit(options: PostTrainConfig, job: JobOptions) -> Any:
    """Hand the run to the scheduler; returns submitit's job.

    Raises:
        ConfigError: unknown cluster, or submitit is not installed.
    """
    try:
        import submitit
    except ImportError as error:
        raise ConfigError("submitit is missing: pip install 'worldmodel[slurm]'") from error
    if job.cluster not in {"slurm", "local"}:
        raise ConfigError(f"cluster={job.cluster!r}; allowed: slurm, local")
    executor = submitit.AutoExecutor(Path(options.out) / "job", cluster=job.cluster)
    more = {"slurm_partition": job.partition} if job.partition else {}
    executor.update_parameters(
        name="worldmodel",
        nodes=job.nodes,
        tasks_per_node=job.processes_per_node,
        timeout_min=job.minutes,
        **more,
    )
    return executor.submit(TrainingJob(options, job.port))


def wait(job: Any) -> dict[str, Any]:
    """The result of rank 0.

    Raises:
        TrainingError: a process failed; the message names it and its log.
    """
    import submitit

    try:
        rows: list[dict[str, Any]] = job.results()
    except (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError) as error:
        raise TrainingError(
            f"job {job.job_id} failed: {error}. Logs in {job.paths.folder}; start again with the "
            "same command, it goes on from the last checkpoint"
        ) from error
    return rows[0]
