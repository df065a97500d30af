"""Options of `worldmodel probe dense` and `probe dense-predict`; this module imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError
from worldmodel.specs import Precision

Task = Literal["depth", "segmentation"]
RATES = {
    "depth": (1.5e-3, 1e-3, 8e-4, 3e-4, 1e-4, 8e-5, 3e-5),
    "segmentation": (1.5e-3, 8e-4, 5e-4, 8e-5),
}
"""Published learning rates of the grid. Source: V-JEPA 2.1 (arXiv 2603.14482), app. C."""
DECAYS = {"depth": (1e-3, 1e-4), "segmentation": (0.1, 0.01, 1e-4)}
"""Published weight decays of the grid."""


@dataclass(frozen=True, kw_only=True)
class DenseOptions(Checked):
    """Options of `worldmodel probe dense`."""

    train: str = ""
    """Folder of the training images: `images`, and `depth` or `labels` with PNG files of the same
    names."""
    val: str = ""
    """Folder of the unseen images, laid out alike, on which the chosen head is judged."""
    links: Literal["inside", "all"] = "inside"
    """Linked files must stay inside their folder, or may lead anywhere (`all`, for your own
    links)."""
    task: Task = "segmentation"
    """What is read: depth (16-bit PNG, 0 where it is unknown), or segmentation (8-bit PNG of class
    numbers, 255 where there is none)."""
    encoder: str = "vjepa2.1-vitl"
    """Frozen encoder: a published name, a file, a run's folder, hf:NAME or random:SIZE."""
    image_size: int = field(default=0, metadata=between(0, 4096, "px"))
    """Side to which images are squeezed for the encoder (0: the encoder's own)."""
    depth_scale: float = field(default=0.001, metadata=between(1e-9, 1000, "m"))
    """Depth of one unit of the PNG files (NYUv2: 0.001, KITTI: 1 / 256)."""
    epochs: int = field(default=20, metadata=between(1, 100_000))
    """Number of passes over the training images."""
    batch_size: int = field(default=16, metadata=between(1, 65536, "images"))
    """Number of images of an update."""
    lr: float | None = field(default=None, metadata=between(1e-12, 10))
    """Learning rate of all heads (default: the published grid)."""
    weight_decay: float | None = field(default=None, metadata=between(0, 10))
    """Weight decay of all heads (default: the published grid)."""
    choose_share: float = field(default=0.1, metadata=between(0.001, 0.9))
    """Share of the training images on which the best head is chosen and none is trained."""
    pictures: int = field(default=8, metadata=between(0, 100_000))
    """Number of unseen images whose predictions are written as pictures."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Seed of the heads and of the order of the images."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of encoder and heads."""
    precision: Precision = "auto"
    """Data type of the encoder's weights (auto: bfloat16 on CUDA devices that have it, else
    float32)."""
    out: str = field(default="runs/probe_dense", metadata={"takes_lock": True})
    """Folder of the head, curves, pictures and summary; a second run resumes."""

    def __post_init__(self) -> None:
        """Check that both folders are named.

        Raises:
            ConfigError: An option is out of range, or a folder is missing.
        """
        super().__post_init__()
        if not self.train or not self.val:
            raise ConfigError("train= or val= is empty: give a folder for both")

    @property
    def rates(self) -> tuple[float, ...]:
        """Learning rates of the grid."""
        return RATES[self.task] if self.lr is None else (self.lr,)

    @property
    def decays(self) -> tuple[float, ...]:
        """Weight decays of the grid."""
        return DECAYS[self.task] if self.weight_decay is None else (self.weight_decay,)


@dataclass(frozen=True, kw_only=True)
class DensePredictOptions(Checked):
    """Options of `worldmodel probe dense-predict`."""

    head: str = ""
    """Trained head: the folder of a run of `probe dense`, or its head.safetensors."""
    images: str = ""
    """Image file, or a folder of them, with its subfolders."""
    links: Literal["inside", "all"] = "inside"
    """Linked folders are always followed. Linked files of a folder must stay inside it, or may lead
    anywhere (`all`, for your own links)."""
    encoder: str = ""
    """Frozen encoder (default: the one that the head was trained on, by its name)."""
    depth_scale: float = field(default=0.001, metadata=between(1e-9, 1000, "m"))
    """Depth of one unit of the written PNG files, which hold up to 65,535 units; of a head for
    depth."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of encoder and head."""
    precision: Precision = "auto"
    """Data type of the encoder's weights (auto: bfloat16 on CUDA devices that have it, else
    float32)."""
    out: str = "runs/dense_predicted"
    """Folder of the maps (`depth` or `labels`), of pictures of them, and of predictions.json."""

    def __post_init__(self) -> None:
        """Check that head and images are named.

        Raises:
            ConfigError: An option is out of range, or the head or the images are missing.
        """
        super().__post_init__()
        if not self.head or not self.images:
            raise ConfigError("head= or images= is empty: give a head, and an image or a folder")
