"""Access to golden arrays, which published code computed with random weights.

Each `agreement_NAME.py` has `FAMILIES`: pairs of a stem (`golden`, `golden21`,
`golden_perception`) and a function that takes a `Golden` and yields name, computed and wanted
arrays; and `INPUTS`, patterns of the arrays that are inputs and not results.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Pairs = Iterator[tuple[str, Tensor, Tensor]]
Network = TypeVar("Network", bound=nn.Module)


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

    def __post_init__(self) -> None:
        with np.load(self.folder / f"{self.stem}.npz") as found:
            arrays = {name: torch.from_numpy(found[name]) for name in found.files}
        object.__setattr__(self, "arrays", arrays)
        text = (self.folder / f"{self.stem}.json").read_text(encoding="utf-8")
        object.__setattr__(self, "facts", json.loads(text))

    def __getitem__(self, name: str) -> Tensor:
        """Return an array on the device of the networks."""
        return self.arrays[name].to(self.device)

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

    def pair(self, name: str, computed: Tensor) -> tuple[str, Tensor, Tensor]:
        """Return an array's name, its computed value and its golden value."""
        return name, computed, self.arrays[name]


Family = Callable[[Golden], Pairs]
