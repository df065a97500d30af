"""Sweeps: `-m key=a,b` runs a command for each combination through Hydra's launchers.

`hydra/launcher=basic` (the default) runs the jobs one after another in this process,
`submitit_local` runs each in a separate process, and `submitit_slurm` runs them as cluster jobs.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import TextIO

from hydra import initialize
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from planning.cli.commands import REFUSALS, is_refusal, load_command
from planning.cli.compose import ROOT, build, plain_tree, register
from planning.cli.fields import UsageError
from planning.cli.messages import explain
from planning.cli.request import Request, hydra_text, set_value
from planning.cli.run_command import run_command
from worldmodel.shards import shards_folder

SHARED_RECORDS = "runs/sweeps/${now:%Y-%m-%d_%H-%M-%S}"
"""Folder of Hydra's records if the jobs share no output folder."""
LAUNCHER = "hydra/launcher="
JOB_FOLDER = "hydra.launcher.submitit_folder="


@dataclass(frozen=True)
class JobResult:
    """End of a job, as it returns from the process that ran it."""

    status: int
    """Exit status of the command."""
    out: str
    """Output folder; empty for a command without one."""
    printed: str
    """Standard output of the command."""
    error: str
    """Message of a refused command, or an empty string."""
    process: int
    """PID of the process."""


class _Copy(io.TextIOBase):
    """Standard output that also keeps its text."""

    def __init__(self, target: TextIO) -> None:
        self.target, self.kept = target, io.StringIO()

    def write(self, text: str) -> int:
        self.kept.write(text)
        return self.target.write(text)

    def flush(self) -> None:
        self.target.flush()


@dataclass(frozen=True)
class SweepJob:
    """A job of a sweep; Hydra calls it with the composed config, possibly in another process."""

    command: str
    kind: type
    out: str
    """Dotted name of the output folder option that each job numbers; empty for none."""

    def __call__(self, config: DictConfig) -> JobResult:
        """Run the command; its exit status is 2 for invalid options."""
        tree, folder, error = plain_tree(config), "", ""
        tree.pop("hydra", None)
        if self.out:
            parent = PurePath(str(OmegaConf.select(config, self.out)))
            folder = str(parent / str(HydraConfig.get().job.num))
            set_value(tree, self.out, folder)
        copy = _Copy(sys.stdout)
        try:
            with contextlib.redirect_stdout(copy):
                status = run_command(load_command(self.command), build(self.kind, tree))
        except REFUSALS as found:
            if not is_refusal(found):
                raise
            error, status = explain(found), 2
            print(f"error: {error}", file=sys.stderr)
        return JobResult(status, folder, copy.kept.getvalue(), error, os.getpid())


def require_launcher(hydra_words: list[str]) -> None:
    """Check that the requested launcher can run here.

    Raises:
        UsageError: Its package is not installed, or this machine is not part of a cluster.
    """
    name = next((w.partition("=")[2] for w in hydra_words if w.startswith(LAUNCHER)), "")
    if name.startswith("submitit") and find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        raise UsageError(f"{LAUNCHER}{name} is not installed. pip install 'worldmodel[slurm]'.")
    if name == "submitit_slurm" and shutil.which("srun") is None:
        raise UsageError(
            f"{LAUNCHER}{name} needs Slurm's `srun`, which is not on this machine. Run the command "
            f"on a login node of the cluster, or use {LAUNCHER}submitit_local."
        )


def makes_shards(request: Request) -> bool:
    """Return whether the jobs of a sweep are shards of one output, each with a folder of its own.

    Raises:
        UsageError: The sweep varies something else, too.
    """
    shard = request.layout.find("shard")
    if shard is None or shard.name not in request.values:
        return False
    others = [name for name, values in request.values.items() if len(values) > 1]
    others += [group for group, nodes in request.files.items() if len(nodes) > 1]
    others = [name for name in others if name != shard.name]
    if others:
        raise UsageError(
            f"A sweep over {shard.leaf} makes the shards of one output, and varies nothing else "
            f"({', '.join(others)}). Sweep over the shards of each output separately."
        )
    return True


def run_sweep(request: Request, hydra_words: list[str]) -> int:
    """Run all jobs of a sweep and return the highest exit status.

    Each job writes to a numbered folder below `out`, unless the sweep itself varies `out` or makes
    shards of it. Hydra's own records (composed options, logs) are in `out/hydra`,
    `out.shards/hydra` or `runs/sweeps/`.

    Raises:
        UsageError: Two jobs would write the same file, or Hydra rejects the configuration.
    """
    require_launcher(hydra_words)
    out = request.layout.find("out")
    given = request.values.get(out.name, []) if out else []
    first = str((given or [out.default])[0]) if out is not None and len(given) < 2 else ""
    by_shard = makes_shards(request)
    if first and out is not None and out.is_file and not by_shard:
        raise UsageError("All jobs of the sweep would write one file. Give out=FILE_1,FILE_2.")
    folder = shards_folder(Path(first)) if by_shard else PurePath(first)
    records = hydra_text(str(folder / "hydra")) if first else SHARED_RECORDS
    words = [f"hydra.sweep.dir={records}", *request.overrides, *hydra_words]
    submitit = any(word.startswith(f"{LAUNCHER}submitit") for word in hydra_words)
    if submitit and not any(word.startswith(JOB_FOLDER) for word in hydra_words):
        # One folder for all jobs exists before they start. A folder per job is made after the
        # job's start, and a job that is faster than its parent ends without an output.
        words.append(JOB_FOLDER + "${hydra.sweep.dir}/.submitit")
    numbered = out.name if out and first and not by_shard else ""
    job = SweepJob(request.command, request.kind, numbered)
    register(request)
    try:
        with initialize(version_base="1.3", config_path=None, job_name=ROOT):
            hydra = GlobalHydra.instance().hydra
            results = hydra.multirun(config_name=ROOT, task_function=job, overrides=words)
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(" ".join(str(error).split())) from error
    return show_results([result for batch in results for result in batch])


def show_results(jobs: Sequence[JobReturn]) -> int:
    """Print what differs between the jobs and their results; return the highest exit status.

    What a job printed is repeated only if another process printed it, into its log file.
    """
    shared = set.intersection(*(set(job.overrides or []) for job in jobs))
    for number, job in enumerate(jobs):
        result: JobResult = job.return_value
        words = " ".join(word for word in job.overrides or [] if word not in shared)
        where = f", in {result.out}" if result.out else ""
        print(f"#{number} {words}: exit status {result.status}{where}")
        if result.process != os.getpid():
            print(result.printed, end="")
            if result.error:
                print(f"error: {result.error}")
    return max(int(job.return_value.status) for job in jobs)
