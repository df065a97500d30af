"""`worldmodel pretrain`: train an encoder of video or images by masked latent prediction."""

from __future__ import annotations

from planning.cli.train import print_summary
from worldmodel.training.config import PRETRAIN_MODES as MODES
from worldmodel.training.config import AnyPretrainOptions, ImagePretrainOptions, PretrainOptions

__all__ = ["MODES", "run"]


def run(options: AnyPretrainOptions) -> int:
    """Pretrain, then print the verdict, the encoder's path and a command that uses it."""
    from worldmodel.training.run import train  # keeps --help free of torch

    print_summary(train(options))
    path = f"{options.run.out}/encoder.safetensors"
    print(f"encoder: {path}")
    print(f"report: {options.run.out}/training.html")
    if isinstance(options, ImagePretrainOptions):
        print(f"next: worldmodel features videos={options.run.val} model={path} out=features.h5")
        return 0
    if not isinstance(options, PretrainOptions):
        return 0
    print(f"next: worldmodel train mode=frozen encoder={path} data={options.run.data}")
    return 0
