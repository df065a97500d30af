"""The training loop of a grid of heads: epochs, saved states, exact resume, several processes.

Shapes: V views, B items, N tokens, D width, P heads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

import torch
from torch import Tensor, nn
from tqdm import tqdm

from worldmodel.atomic_io import atomic_file, write_json
from worldmodel.errors import CheckpointError, ConfigError, DataError, TrainingError
from worldmodel.models.model_hash import model_hash
from worldmodel.perception.heads.grid import HeadGrid, Output
from worldmodel.perception.sharing import Processes, merged

Read = Callable[[int, Tensor], tuple[Tensor, Tensor]]
"""Returns tokens [V, B, N, D] and labels [B, ...] of items in an epoch (from 1)."""
EMPTY = -1.0
"""Loss of a batch without a readable item."""
FREE = ("device", "out", "save_every", "links", "tokens")
"""Options that only say where a run is, and where its items may be."""


@dataclass(frozen=True, kw_only=True)
class Fitting(Generic[Output]):
    """A grid of heads and what it is trained on."""

    heads: HeadGrid[Output]
    read: Read
    numbers: Tensor
    """Numbers of the items, int64."""
    batches: int
    """Number of updates of an epoch."""
    seed: int
    """Seed of the items' order."""
    out: Path
    """Folder of state.pt, curves.json and curves.png."""
    facts: str
    """What the run depends on (`run_facts`); the state of another run is refused."""
    save_every: int
    """Number of updates between saved states."""
    rejected: dict[str, str] = field(default_factory=dict)
    """Item -> the reason why `read` could not use it; saved and resumed."""

    @property
    def state(self) -> Path:
        """File of the state."""
        return self.out / "state.pt"


@dataclass
class _Progress:
    """What a state holds besides the heads."""

    rows: list[dict[str, Any]]
    """Finished epochs of the learning curve."""
    losses: list[Tensor]
    """Losses [P] of each update of the epoch that is not finished."""


def run_facts(options: Mapping[str, object], networks: Sequence[nn.Module], items: object) -> str:
    """Return what a run depends on, as text.

    Args:
        options: Its options, of which those count that do not only say where it runs.
        networks: Frozen networks; weights and configuration are compared, not names.
        items: Items and labels that are trained on, serialisable as JSON.
    """
    compared = {**options, **dict.fromkeys(FREE)}
    digest = hashlib.sha256(json.dumps(items).encode()).hexdigest()[:16]
    return json.dumps([compared, [model_hash(network) for network in networks], digest])


def differences(saved: str, own: str) -> list[str]:
    """Return what two runs differ in, by the texts of `run_facts`."""
    before, now = (_named(text) for text in (saved, own))
    return [
        f"{name}: {str(before.get(name))[:60]} -> {str(now.get(name))[:60]}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]


def _named(text: str) -> dict[str, object]:
    options, networks, items = json.loads(text)
    facts = {name: value for name, value in options.items() if name not in FREE}
    return {**facts, "weights": networks, "items": items}


def generator_of(seed: int, epoch: int) -> torch.Generator:
    """Return the random generator of an epoch's order; epoch 0 divides the items."""
    return torch.Generator().manual_seed(seed * 100_003 + epoch)


def fit(fitting: Fitting[Output], processes: Processes, device: torch.device) -> None:
    """Train to the end; an interrupted run resumes exactly.

    Raises:
        ConfigError: `out` holds the state of another run.
        CheckpointError: The state is damaged.
        DataError: An epoch had no item that can be read.
        TrainingError: All heads diverged.
    """
    heads = fitting.heads.to(device)
    done = _resume(fitting, device)
    batches = fitting.batches
    for epoch in range(heads.steps_done // batches, heads.total_steps // batches):
        order = torch.randperm(
            len(fitting.numbers), generator=generator_of(fitting.seed, epoch + 1)
        )
        parts = fitting.numbers[order].tensor_split(batches)
        bar = tqdm(
            parts[len(done.losses) :],
            desc=f"epoch {epoch + 1}",
            unit="batch",
            disable=bool(processes.rank) or None,
        )
        for part in bar:
            done.losses.append(_update(fitting, epoch + 1, part, processes, device))
            if heads.steps_done % fitting.save_every == 0 and heads.steps_done % batches:
                _save(fitting, done, processes)
        _end_epoch(done, epoch + 1)
        _save(fitting, done, processes)
    if not processes.rank:
        from worldmodel.perception.heads.curves import draw_curves  # matplotlib takes its time

        draw_curves(fitting.out / "curves.png", done.rows, heads.settings)


def _update(
    fitting: Fitting[Output], epoch: int, part: Tensor, processes: Processes, device: torch.device
) -> Tensor:
    """Update the heads on a batch, of which each process reads its share; return the losses [P].

    Those of a batch without a readable item are `EMPTY`.
    """
    tokens, labels = fitting.read(epoch, part.sort().values[processes.rank :: processes.count])
    count = sum(processes.from_all(len(labels)))
    heads = fitting.heads
    if not count:
        heads.steps_done += 1
        return torch.full((len(heads.heads),), EMPTY)
    return heads.update(tokens.to(device), labels.to(device), count).cpu()


def _end_epoch(done: _Progress, epoch: int) -> None:
    losses = torch.stack(done.losses)
    used = losses[(losses != EMPTY).all(1)]
    if not len(used):
        raise DataError(f"no item could be read in epoch {epoch}: see the warnings above")
    if not used[-1].isfinite().any():
        raise TrainingError(
            f"the losses of all {losses.shape[1]} heads are not finite in epoch {epoch}: use a "
            "lower lr= or weight_decay="
        )
    done.rows.append({"epoch": epoch, "loss": used.mean(0).tolist()})
    done.losses.clear()


def _save(fitting: Fitting[Output], done: _Progress, processes: Processes) -> None:
    """Write state and curves; every process must call it."""
    fitting.rejected.update(merged(processes, fitting.rejected))
    if processes.rank:
        return
    with atomic_file(fitting.state) as part:
        torch.save(
            {
                "options": fitting.facts,
                "grid": fitting.heads.training_state(),
                "rows": done.rows,
                "losses": done.losses,
                "rejected": fitting.rejected,
            },
            part,
        )
    write_json(fitting.out / "curves.json", done.rows)


def _resume(fitting: Fitting[Output], device: torch.device) -> _Progress:
    """Load the state that an earlier run left, if any.

    Raises:
        ConfigError: The run had other options.
        CheckpointError: The file is damaged.
    """
    done = _Progress([], [])
    state = fitting.state
    if not state.is_file():
        return done
    try:
        saved = torch.load(state, map_location=device, weights_only=True)
        found = differences(saved["options"], fitting.facts)
        if not found:
            fitting.heads.load_training_state(saved["grid"])
            done.rows = [dict(row) for row in saved["rows"]]
            done.losses = [row.cpu() for row in saved["losses"]]
            fitting.rejected.update(saved["rejected"])
    except Exception as error:  # torch raises errors of any kind on a damaged file
        first = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise CheckpointError(
            f"{state} is damaged ({first[:300]}): delete it to train again, or use another out="
        ) from error
    if found:
        raise ConfigError(
            f"{state} is of a run with other options, items or encoder weights "
            f"({', '.join(found)}): give the same ones, or use another out="
        )
    return done
