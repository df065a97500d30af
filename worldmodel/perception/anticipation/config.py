"""Options of `worldmodel anticipate train`; this module imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError
from worldmodel.perception.probes.config import TrainPrecision

RATES = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4)
DECAYS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Published grid of learning rates and weight decays."""
RELEASED_ANCHOR = (0.0, 0.25)
"""Published range of the anchor in training, near the action's stop (0)."""


@dataclass(frozen=True, kw_only=True)
class AnticipateTrainOptions(Checked):
    """Options of `worldmodel anticipate train`."""

    annotations: str = ""
    """Folder with EPIC_100_train.csv."""
    videos: str = ""
    """Folder with P01/videos/P01_01.MP4 or P01/P01_01.MP4, and so on."""
    model: str = "vjepa2-vitl"
    """Published name or file with the target encoder and the masked predictor."""
    num_heads: int | None = field(default=None, metadata=between(1, 1024))
    """Number of attention heads of the encoder (default: that of the published model)."""
    predictor_heads: int | None = field(default=None, metadata=between(1, 1024))
    """Number of attention heads of the predictor (default: that of the published model)."""
    probe_heads: int = field(default=16, metadata=between(1, 1024))
    """Number of attention heads of a probe; divides the encoder's width."""
    depth: int = field(default=4, metadata=between(1, 64))
    """Number of attention blocks of a probe."""
    parts: Literal["both", "encoder", "predictor"] = "both"
    """Whether the probes read the encoder's tokens, the predicted ones, or both."""
    image_size: int | None = field(default=None, metadata=between(16, 4096, "px"))
    """Height and width of the input images (default: those of the published model, else 256)."""
    num_frames: int = field(default=32, metadata=between(2, 4096, "frames"))
    """Number of frames of a clip."""
    fps: float = field(default=8.0, metadata=between(0.01, 1000, "Hz"))
    """Sampling rate of a clip."""
    seconds: tuple[float, float] = field(default=(0.25, 1.75), metadata=between(0, 3600, "s"))
    """Range of the gap between the end of a clip and the action; it is drawn for each clip."""
    as_released: bool = False
    """Whether clips end before the action's stop, as in the released training, not before its
    start; most clips then show the action itself."""
    augment: bool = True
    """Whether to train on the published random views: RandAugment, crop, flip and erasing."""
    epochs: int = field(default=20, metadata=between(1, 2**16))
    """Number of passes over the training actions."""
    batch_size: int = field(default=128, metadata=between(1, 2**16))
    """Number of clips of an update."""
    encode_batch: int = field(default=2, metadata=between(1, 4096, "clips"))
    """Number of clips that are encoded together."""
    lr: float | None = field(default=None, metadata=between(1e-12, 10))
    """Learning rate of all heads (default: the published grid)."""
    weight_decay: float | None = field(default=None, metadata=between(0, 10))
    """Weight decay of all heads (default: the published grid)."""
    choose_share: float = field(default=0.1, metadata=between(0.001, 0.9))
    """Share of the training videos on which the best head is chosen and none is trained."""
    save_every: int = field(default=200, metadata=between(1, 10**9, "updates"))
    """Number of updates between saved states; the end of each epoch is saved as well."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Seed of the heads, of the order of the actions and of their random clips."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the model and the heads."""
    precision: TrainPrecision = "auto"
    """Data type of the model's weights and of the heads' products (auto: bfloat16 on CUDA
    devices that have it, else float32)."""
    out: str = field(default="runs/anticipate-train", metadata={"takes_lock": True})
    """Folder of probes, curves and summary; a second run resumes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("annotations", self.annotations), ("videos", self.videos)):
            if not value:
                raise ConfigError(f"{name} is empty: give {name}=FOLDER")
        if self.seconds[0] > self.seconds[1]:
            raise ConfigError(f"seconds={self.seconds}; allowed: low <= high")
