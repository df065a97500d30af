"""Checkpoints of one or many processes: saved on N ranks, resumed on M.

A checkpoint is a folder `step-STEP` written by torch.distributed.checkpoint. It is written to a
folder with a unique temporary name and flushed; every rank hashes its files; rank 0 lists the
hashes in `whole.json`, with the facts of the run, and renames the folder. A checkpoint is complete
if all hashes match; incomplete ones are skipped.
"""

from __future__ import annotations

import itertools
import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict import (
    OptimizerStateType,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load as load_sharded
from torch.distributed.checkpoint.state_dict_saver import save as save_sharded
from torch.optim import Optimizer

from worldmodel.atomic_io import PART_SUFFIX, sync_folder, temporary_path, write_json
from worldmodel.errors import CheckpointError, TrainingError
from worldmodel.training.checkpoint_reader import CheckpointReader, Planner
from worldmodel.training.distributed import Ranks

log = logging.getLogger(__name__)
WHOLE = "whole.json"
EXECUTION = ("fused", "foreach", "capturable", "differentiable")
"""Entries of an optimiser's groups that tell how it runs on its device, not what it computes."""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


@contextmanager
def _one_process_is_meant() -> Iterator[None]:
    """Suppress torch's warning about checkpoints without a process group."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _run_as(optimizer: Optimizer, moments: OptimizerStateType) -> None:
    """Let saved groups run as those of `optimizer` do, whose device may be another one."""
    groups = moments["param_groups"]
    assert isinstance(groups, list)
    for group in groups:
        group |= {name: optimizer.defaults[name] for name in EXECUTION if name in group}


def step_of(path: Path) -> int:
    """Return the step in a checkpoint's name."""
    return int(path.stem.split("-")[1])


def _read_whole(path: Path) -> tuple[dict[str, str], dict[str, object] | None] | None:
    """Return the hashes of a checkpoint's files and the facts of its run; None if it has none."""
    try:
        whole = json.loads((path / WHOLE).read_text(encoding="utf-8"))
        hashes, facts = whole["sha256"], whole.get("run")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    named = isinstance(hashes, dict) and ".metadata" in hashes
    plain = named and all(Path(name).name == name for name in hashes)
    return (hashes, facts) if plain and (facts is None or isinstance(facts, dict)) else None


def facts_of(path: Path) -> dict[str, object] | None:
    """Return the facts of a complete checkpoint's run; None if an older version wrote it."""
    whole = _read_whole(path)
    return None if whole is None else whole[1]


def _wrapped(error: BaseException) -> list[BaseException]:
    """Return the errors of the ranks that torch wraps, or the error itself."""
    failures = error.failures.values() if isinstance(error, CheckpointException) else ()
    return [failure[0] for failure in failures] or [error]


def _raise_interrupt(error: BaseException) -> None:
    """Raise a signal's exception that torch has wrapped like a failure of the disk."""
    for inner in _wrapped(error):
        if isinstance(inner, KeyboardInterrupt):
            raise inner


def _reason(error: BaseException) -> str:
    """Return the first line of an error, or of what torch wraps."""
    inner = _wrapped(error)[0]
    return next(iter(str(inner).strip().splitlines()), type(inner).__name__)


class CheckpointStore:
    """Saves checkpoints, and loads those of any number of ranks."""

    def __init__(
        self,
        folder: Path,
        keep: int = 2,
        facts: Mapping[str, object] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        """Keep the newest `keep` checkpoints in `folder`, each with the facts of its run."""
        self.folder, self.keep, self.facts = folder, keep, facts
        self.ranks = ranks or Ranks()
        self.rank, self.count = self.ranks.rank, self.ranks.count

    @property
    def _generator(self) -> str:
        """Return the key of this rank's random generator, which depends on the number of ranks."""
        return f"generator.{self.rank}-of-{self.count}"

    def save(self, step: int, model: nn.Module, optimizer: Optimizer) -> None:
        """Write a checkpoint atomically.

        Raises:
            TrainingError: The write failed, for example on a full disk; older checkpoints are kept.
        """
        path = self.folder / f"step-{step:08d}"
        part = self.ranks.from_rank_0(temporary_path(path))
        try:
            problem = ""
            if self.rank == 0:
                part.mkdir(parents=True)
            self.ranks.barrier()
            weights, moments = get_state_dict(model, optimizer)
            state = {"model": weights, "optimizer": moments}
            state[self._generator] = torch.get_rng_state()
            with _one_process_is_meant():
                writer = FileSystemWriter(part)
                save_sharded(
                    state,
                    storage_writer=writer,
                    process_group=self.ranks.patient,
                    no_dist=self.count == 1,
                )
            published = self._publish(step, part, path, self._hashes(part))
            problem = self.ranks.from_rank_0(published)
        except (OSError, CheckpointException) as error:
            _raise_interrupt(error)
            problem = _reason(error)
        finally:
            if self.rank == 0:  # what a full disk or a signal ended; a whole one has been renamed
                shutil.rmtree(part, ignore_errors=True)
        if problem:
            raise TrainingError(
                f"Cannot write the checkpoint of step {step} to {self.folder}: {problem}. Free "
                "space there and start the same command again; it resumes from the last checkpoint"
            )

    def _remove_parts(self) -> None:
        """Remove what killed runs left; the run's lock keeps other runs out of the folder."""
        if self.rank == 0:
            for part in self.folder.glob(f"*{PART_SUFFIX}"):
                shutil.rmtree(part, ignore_errors=True)

    def _hashes(self, part: Path) -> dict[str, str]:
        """Return the hashes of all ranks' files; rank 0 also hashes the metadata file."""
        mine = sorted(part.glob(f"__{self.rank}_*"))
        if self.rank == 0:
            mine.append(part / ".metadata")
        hashes: dict[str, str] = {}
        for found in self.ranks.from_all({p.name: _sha256(p) for p in mine}):
            hashes |= found
        return hashes

    def _publish(self, step: int, part: Path, path: Path, hashes: dict[str, str]) -> str:
        """Write the hashes, rename the folder and delete old ones on rank 0; return any error."""
        if self.rank:
            return ""
        try:
            whole = {"step": step, "sha256": hashes, "run": self.facts}
            write_json(part / WHOLE, whole, indent=None)
            shutil.rmtree(path, ignore_errors=True)
            part.rename(path)
            sync_folder(self.folder)
        except OSError as error:
            return repr(error)
        for old in self._folders()[: -self.keep]:
            shutil.rmtree(old)
        return ""

    def _folders(self) -> list[Path]:
        found = (p for p in self.folder.glob("step-*") if p.is_dir())
        return sorted(p for p in found if p.name.removeprefix("step-").isdecimal())

    def _damage(self, path: Path) -> str:
        """Describe the damage of a checkpoint, or return ""; ranks share the reading."""
        whole = _read_whole(path)
        if whole is None:
            return f"{WHOLE} is missing or lists no hashes"
        hashes = whole[0]
        mine = sorted(hashes)[self.rank :: self.count]
        bad = [n for n in mine if not (path / n).is_file() or _sha256(path / n) != hashes[n]]
        wrong = sorted(itertools.chain.from_iterable(self.ranks.from_all(bad)))
        return f"{', '.join(wrong)} missing or changed" if wrong else ""

    def newest(self) -> Path | None:
        """Return the newest complete checkpoint; None without any.

        Raises:
            CheckpointError: No checkpoint is complete, or an older version wrote them.
        """
        self._remove_parts()
        paths = self.ranks.from_rank_0(self._folders()[::-1])
        for path in paths:
            damage = self._damage(path)
            if not damage:
                return path
            log.warning("%s is damaged (%s); trying the previous one", path, damage)
        if paths:
            raise CheckpointError(
                f"None of the {len(paths)} checkpoints in {self.folder} is whole; "
                "delete the folder to start again"
            )
        if any(self.folder.glob("*.pt")) or any(self.folder.glob("dcp-*")):
            raise CheckpointError(
                f"{self.folder} holds checkpoints of an older version, which cannot be resumed: "
                "choose another out folder, or delete this one to start again"
            )
        return None

    def load(self, model: nn.Module, optimizer: Optimizer) -> int:
        """Load the newest complete checkpoint and return its step; 0 without one.

        If the number of ranks is unchanged, the random generator continues exactly; otherwise it is
        reseeded from the seed, the step and the rank.

        Raises:
            CheckpointError: No checkpoint is complete, an older version wrote them, or the newest
                does not fit the model.
        """
        path = self.newest()
        if path is None:
            return 0
        try:
            self._read(path, model, optimizer)
        except CheckpointError:
            raise
        # torch raises errors of any kind on a foreign checkpoint, and its own is a BaseException
        except (Exception, CheckpointException) as error:
            _raise_interrupt(error)
            raise CheckpointError(
                f"{path} does not fit this run ({_reason(error)}): choose another out=, or delete "
                "the folder"
            ) from error
        return step_of(path)

    def _read(self, path: Path, model: nn.Module, optimizer: Optimizer) -> None:
        weights, moments = get_state_dict(model, optimizer)
        whole = _read_whole(path)
        reader = CheckpointReader(path, set(whole[0]) if whole else set())
        state: dict[str, object] = {"model": weights, "optimizer": moments}
        generator: Tensor | None = None
        if self._generator in reader.read_metadata().state_dict_metadata:
            state[self._generator] = generator = torch.get_rng_state()
        with _one_process_is_meant():
            load_sharded(
                state,
                storage_reader=reader,
                planner=Planner(),
                process_group=self.ranks.patient,
                no_dist=self.count == 1,
            )
        _run_as(optimizer, moments)
        set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments)
        if generator is None:
            torch.manual_seed(torch.initial_seed() + 1_000_003 * step_of(path) + self.rank)
        else:
            torch.set_rng_state(generator)
