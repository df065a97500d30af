"""`worldmodel train`: train an action-conditioned world model on recorded episodes."""

from __future__ import annotations

from collections.abc import Mapping

from worldmodel.training.config import (
    MODES,
    AnyOptions,
    FinetuneOptions,
    FrozenOptions,
    PostOptions,
)
from worldmodel.training.macro_options import MacroOptions

__all__ = ["MODES", "run"]
STARTED = (PostOptions, FrozenOptions, FinetuneOptions, MacroOptions)
"""Options of runs that start from the model that `encoder=` names."""


def run(options: AnyOptions) -> int:
    """Train, then print the verdict and the paths of the results."""
    from planning.apps.own_encoder import given_model  # keeps --help free of torch
    from worldmodel.training.run import train

    start = given_model(options.start.encoder) if isinstance(options, STARTED) else None
    print_summary(train(options, start))
    print(f"model: {options.run.out}/model.safetensors")
    print(f"report: {options.run.out}/training.html")
    return 0


def print_summary(summary: Mapping[str, object]) -> None:
    """Print the metrics of the last row, without those by axis and by step, and the verdict."""
    from worldmodel.training.verdict import is_detail

    last, verdict = summary.get("last"), summary.get("verdict")
    if isinstance(last, dict):
        for name, value in last.items():
            if not is_detail(name):
                print(f"  {name}: {value:.4g}")
    if isinstance(verdict, dict):
        for finding in verdict["findings"]:
            print(f"{'yes' if finding['good'] else 'NO ':3s} {finding['text']}")
