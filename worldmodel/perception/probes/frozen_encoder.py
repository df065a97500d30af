"""Frozen encoder and data type of the heads at a precision, which may be float16."""

from __future__ import annotations

import torch

from worldmodel.checkpoints.loading import load_encoder
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.precision import resolve_precision
from worldmodel.perception.probes.config import TrainPrecision


def open_frozen_encoder(name: str, device: torch.device, precision: TrainPrecision) -> FrameEncoder:
    """Load an encoder whose weights may be float16 as well."""
    if precision == "float16":
        return load_encoder(name, str(device), "float32").half()
    return load_encoder(name, str(device), precision)


def low_precision(precision: TrainPrecision, device: torch.device) -> torch.dtype | None:
    """Return the data type of the heads' products; None is float32."""
    if precision == "float16":
        return torch.float16
    dtype = resolve_precision(precision, device)
    return None if dtype == torch.float32 else dtype
