"""`worldmodel train`: train an action-conditioned world model on recorded episodes."""

from __future__ import annotations

from collections.abc import Mapping

from worldmodel.training.config import MODES, AnyOptions

__all__ = ["MODES", "run"]


def run(options: AnyOptions) -> int:
    """Train, then print the verdict and the paths of the results."""
    from worldmodel.training.run import train  # keeps --help free of torch

    print_summary(train(options))
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
