"""`worldmodel pretrain`: train a video encoder by masked latent prediction, without labels."""

from __future__ import annotations

from planning.cli.train import print_summary
from worldmodel.training.config import PretrainOptions as Options

__all__ = ["Options", "run"]


def run(options: Options) -> int:
    """Pretrain, then print the verdict, the encoder's path and the command to train on it."""
    from worldmodel.training.run import train  # keeps --help free of torch

    print_summary(train(options))
    path = f"{options.run.out}/encoder.safetensors"
    print(f"encoder: {path}")
    print(f"report: {options.run.out}/training.html")
    print(f"next: worldmodel train mode=frozen encoder={path} data={options.run.data}")
    return 0
