"""Access to golden arrays, which published code computed with random weights.

Each `agreement_NAME.py` has `FAMILIES`: pairs of a stem (`golden`, `golden21`,
`golden_perception`) and a function that takes a `Golden` and yields name, computed and wanted
arrays; and `INPUTS`, patterns of the arrays that are inputs and not results. A family computes
arrays that need the same inputs, so that a missing or damaged input stops no other arrays.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Pairs = Iterator[tuple[str, Tensor, Tensor | None]]
"""Name, computed array, and the golden one if the folder has it."""
Network = TypeVar("Network", bound=nn.Module)
UNREADABLE = (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


class GoldenError(ValueError):
    """A golden file lacks an array or a size, or an array of it cannot be read."""


@dataclass(frozen=True)
class Golden:
    """One npz file, the JSON file of the same name, and the weight files beside them."""

    folder: Path
    stem: str
    device: str = "cpu"
    """Device of the networks and their inputs."""
    low: bool = False
    """Whether networks are in bfloat16."""
    arrays: dict[str, Tensor] = field(init=False)
    """Arrays of the npz file by name, on the CPU."""
    facts: dict[str, Any] = field(init=False)
    """Sizes and metadata from the JSON file."""
    unreadable: dict[str, str] = field(init=False)
    """Array or file -> why it cannot be read."""

    def __post_init__(self) -> None:
        arrays, unreadable = _read_arrays(self.folder / f"{self.stem}.npz")
        object.__setattr__(self, "arrays", arrays)
        object.__setattr__(self, "unreadable", unreadable)
        facts = None
        try:
            text = (self.folder / f"{self.stem}.json").read_text(encoding="utf-8")
            facts = json.loads(text)
            if not isinstance(facts, dict):
                raise GoldenError("it is not an object with names")
        except (OSError, ValueError, RecursionError) as error:
            unreadable[f"{self.stem}.json"] = str(error)
        object.__setattr__(self, "facts", facts if isinstance(facts, dict) else {})

    def __getitem__(self, name: str) -> Tensor:
        """Return an array on the device of the networks.

        Raises:
            GoldenError: There is none, or it cannot be read.
        """
        if name not in self.arrays:
            raise GoldenError(f"input {name}: {self.unreadable.get(name, 'the folder lacks it')}")
        return self.arrays[name].to(self.device)

    def sizes(self, *names: str) -> Any:
        """Return an entry of the JSON file, by the names that lead to it.

        Raises:
            GoldenError: There is none.
        """
        found: Any = self.facts
        for name in names:
            if not isinstance(found, dict) or name not in found:
                raise GoldenError(f"{self.stem}.json lacks {'.'.join(names)}")
            found = found[name]
        return found

    def given(self, x: Tensor) -> Tensor:
        """Return an input in the data type of the networks."""
        return x.bfloat16() if self.low else x

    def placed(self, network: Network) -> Network:
        """Return a network on the device, in bfloat16 if `low`; a clip may then be float32."""
        if self.low:
            network.bfloat16()
        for part in network.modules():
            if self.low and isinstance(part, nn.Conv3d):
                part.register_forward_pre_hook(lambda _, inputs: (inputs[0].bfloat16(),))
        return network.to(self.device)

    def pair(self, name: str, computed: Tensor) -> tuple[str, Tensor, Tensor | None]:
        """Return an array's name, its computed value and its golden value."""
        return name, computed, self.arrays.get(name)


Family = Callable[[Golden], Pairs]


def _read_arrays(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the arrays of an npz file, and why others cannot be read."""
    arrays: dict[str, Tensor] = {}
    unreadable: dict[str, str] = {}
    try:
        with np.load(path) as file:
            for name in file.files:
                try:
                    arrays[name] = _number_array(file[name])
                except UNREADABLE as error:
                    unreadable[name] = str(error)
    except UNREADABLE as error:
        unreadable[path.name] = str(error)
    return arrays, unreadable


def _number_array(found: np.ndarray) -> Tensor:
    if found.dtype.kind not in "biuf":
        raise GoldenError(f"it has data type {found.dtype}; needed: numbers")
    return torch.from_numpy(found.astype(found.dtype.newbyteorder("=")))
