"""File of a pretraining run's three networks: encoder, moving average and masked predictor.

`worldmodel surprise` takes it; the exported encoder alone cannot predict.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from worldmodel.checkpoints.container import fill, load_tensors, read_description, save_safetensors
from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.models.config import EncoderConfig, MaskedPredictorConfig
from worldmodel.models.config_dict import from_dict, to_dict
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.kernels import optimize_for_cpu
from worldmodel.models.masked_predictor import MaskedPredictor

FILE = "pretrained.safetensors"
"""Name in a run's folder."""
KIND = "pretrained"


@dataclass(frozen=True)
class Pretrained:
    """The three networks of masked pretraining."""

    encoder: VisionTransformer
    """The trained encoder, which sees the context."""
    target_encoder: VisionTransformer
    """Its moving average, which gives the targets."""
    predictor: MaskedPredictor

    def _parts(self) -> dict[str, torch.nn.Module]:
        names = ("encoder", "target_encoder", "predictor")
        return {f"{name}.": getattr(self, name) for name in names}

    def save(self, path: Path) -> None:
        """Write the networks and their sizes to one safetensors file, atomically."""
        tensors = {
            f"{prefix}{name}": value.detach().cpu().contiguous()
            for prefix, part in self._parts().items()
            for name, value in part.state_dict().items()
        }
        sizes = {"encoder": self.encoder.config, "predictor": self.predictor.config}
        config = {name: to_dict(size) for name, size in sizes.items()}
        save_safetensors(path, tensors, {"kind": KIND, "config": config})

    @classmethod
    def load(cls, path: Path) -> Pretrained:
        """Read a file written by `save`.

        Raises:
            CheckpointError: The file is damaged, or is not of this kind.
        """
        description = read_description(path) or {}
        config = description.get("config", {})
        if description.get("kind") != KIND or not isinstance(config, dict):
            raise CheckpointError(
                f"{path} has no masked predictor; needed: {FILE} of a run of `worldmodel pretrain`"
                ", or a published file with encoder, target encoder and predictor"
            )
        try:
            sizes = from_dict(EncoderConfig, config.get("encoder", {}))
            with torch.device("meta"):
                predictor = MaskedPredictor(
                    from_dict(MaskedPredictorConfig, config.get("predictor", {}))
                )
                found = cls(VisionTransformer(sizes), VisionTransformer(sizes), predictor)
        except ConfigError as error:
            raise CheckpointError(f"{path}: its description is not valid: {error}") from error
        parts = found._parts()
        fill(parts, load_tensors(path), str(path))
        for part in parts.values():
            optimize_for_cpu(part.eval().requires_grad_(False))
        return found


def is_own(path: Path) -> bool:
    """Return whether a path is a run's folder, or one of our safetensors files."""
    if path.is_dir():
        return (path / FILE).is_file()
    return path.suffix == ".safetensors" and path.is_file() and read_description(path) is not None
