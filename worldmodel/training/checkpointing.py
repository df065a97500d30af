"""Checkpoints of one process or many: a run saved on N ranks goes on on M, under torchrun or not.

One process writes a file a step (`trainer.LocalStore`), many write a folder a step through
torch.distributed.checkpoint: into `dcp-STEP.part`, flushed; every rank hashes its files; rank 0
lists the hashes in `whole.json` and renames the folder. A folder is whole when every hash agrees.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load as load_sharded
from torch.distributed.checkpoint.state_dict_saver import save as save_sharded

from worldmodel.errors import CheckpointError, TrainingError
from worldmodel.training.loop import LocalStore, file_digest, sync_folder

log = logging.getLogger(__name__)
WHOLE = "whole.json"


def _many() -> bool:
    return dist.is_available() and dist.is_initialized()


def _agree(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    if not _many():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def _gather(value: Any) -> list[Any]:
    """Every rank's value."""
    if not _many():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def step_of(path: Path) -> int:
    """The step in a checkpoint's name."""
    return int(path.stem.split("-")[1])


class ShardedCheckpointStore:
    """Saves as the present number of ranks does, loads what any number of ranks wrote."""

    def __init__(self, folder: Path, rank: int = 0, keep: int = 2) -> None:
        self.folder, self.rank, self.keep = folder, rank, keep
        self.local = LocalStore(folder, keep)

    def save(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write a step whole or not at all.

        Raises:
            TrainingError: the disk is full or refuses; nothing older is touched.
        """
        if not _many():
            self.local.save(step, model, optimizer)
            return
        path = self.folder / f"dcp-{step:08d}"
        part = path.with_suffix(".part")
        if self.rank == 0:
            shutil.rmtree(part, ignore_errors=True)
        dist.barrier()
        weights, moments = get_state_dict(model, optimizer)
        try:
            save_sharded({"model": weights, "optimizer": moments}, checkpoint_id=str(part))
            trouble = _gather(self._publish(step, part, path, self._hashes(part)))[0]
        except (OSError, CheckpointException) as error:
            trouble = repr(error)
        if trouble:
            raise TrainingError(
                f"Cannot write the checkpoint of step {step} to {self.folder}: {trouble}. Free "
                "space there and start again with the same command: it goes on from the last one"
            )

    def _hashes(self, part: Path) -> dict[str, str]:
        """Hashes of all ranks' files; each rank reads its own (rank 0 also the description)."""
        mine = sorted(part.glob(f"__{self.rank}_*"))
        if self.rank == 0:
            mine.append(part / ".metadata")
        hashes: dict[str, str] = {}
        for found in _gather({p.name: file_digest(p) for p in mine}):
            hashes |= found
        return hashes

    def _publish(self, step: int, part: Path, path: Path, hashes: dict[str, str]) -> str:
        """Rank 0: list the hashes, rename, drop old ones; what went wrong, if anything."""
        if self.rank:
            return ""
        try:
            with (part / WHOLE).open("w", encoding="utf-8") as file:
                json.dump({"step": step, "sha256": hashes}, file)
                file.flush()
                os.fsync(file.fileno())
            shutil.rmtree(path, ignore_errors=True)
            part.rename(path)
            sync_folder(self.folder)
        except OSError as error:
            return repr(error)
        for old in self._folders()[: -self.keep]:
            shutil.rmtree(old)
        return ""

    def _folders(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("dcp-*") if p.suffix != ".part")

    def _torn(self, path: Path) -> str:
        """What is wrong with a checkpoint (nothing: empty); ranks share the reading."""
        if path.suffix == ".pt":
            digest = path.with_suffix(".sha256")
            whole = digest.is_file() and digest.read_text(encoding="ascii") == file_digest(path)
            return "" if whole else f"{path.name} does not have its hash"
        try:
            hashes = json.loads((path / WHOLE).read_text(encoding="utf-8"))["sha256"]
        except (OSError, ValueError, KeyError):
            return f"{WHOLE} is missing or lists no hashes"
        count = dist.get_world_size() if _many() else 1
        mine = sorted(hashes)[self.rank :: count]
        bad = [n for n in mine if not (path / n).is_file() or file_digest(path / n) != hashes[n]]
        wrong = sorted(itertools.chain.from_iterable(_gather(bad)))
        return f"{', '.join(wrong)} lost or changed" if wrong else ""

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Load the newest whole step, whatever number of ranks wrote it; 0 when there is none.

        Raises:
            CheckpointError: there are checkpoints and none is whole.
        """
        found = [*self._folders(), *self.folder.glob("step-*.pt")]
        paths: list[Path] = _agree(sorted(found, key=step_of, reverse=True))
        for path in paths:
            torn = self._torn(path)
            if not torn:
                return self._read(path, model, optimizer)
            log.warning("%s is torn (%s); trying the one before it", path, torn)
        if paths:
            raise CheckpointError(
                f"None of the {len(paths)} checkpoints in {self.folder} is whole; "
                "delete the folder to begin anew"
            )
        return 0

    def _read(self, path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        if path.suffix == ".pt":
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            if not _many():
                return self.local.restore(state, model, optimizer)
            set_state_dict(
                model,
                optimizer,
                model_state_dict=state["model"],
                optim_state_dict=by_name(state["optimizer"], model, optimizer),
                options=StateDictOptions(full_state_dict=True),
            )
            return int(state["step"])
        weights, moments = get_state_dict(model, optimizer)
        whole: dict[str, Any] = {"model": weights, "optimizer": moments}
        load_sharded(whole, storage_reader=FileSystemReader(str(path)), no_dist=not _many())
        set_state_dict(
            model, optimizer, model_state_dict=whole["model"], optim_state_dict=whole["optimizer"]
        )
        return step_of(path)


def by_name(
    state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """An optimiser's state with parameters' names in place of their numbers."""
    name_of = {
        id(p): name.replace("_checkpoint_wrapped_module.", "")
        for name, p in model.named_parameters()
    }
    names = [name_of[id(p)] for group in optimizer.param_groups for p in group["params"]]
    groups = [{**g, "params": [names[i] for i in g["params"]]} for g in state["param_groups"]]
    return {"state": {names[i]: s for i, s in state["state"].items()}, "param_groups": groups}
