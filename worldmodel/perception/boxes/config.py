"""Options of `worldmodel probe boxes`; this module imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError
from worldmodel.perception.probes.recipes import COUNT, Levels
from worldmodel.specs import Precision


@dataclass(frozen=True, kw_only=True)
class BoxOptions(Checked):
    """Options of `worldmodel probe boxes`."""

    train: str = ""
    """Annotated boxes, as ava_train_v2.2.csv; empty judges the head of `probe`."""
    val: str = ""
    """Annotated boxes on which the head is judged, as ava_val_v2.2.csv."""
    actions: str = ""
    """List of classes, as ava_action_list_v2.2_for_activitynet_2019.pbtxt."""
    videos: str = ""
    """Folder of the videos; a video is named as in the annotations."""
    excluded: str = ""
    """Moments of `val` that are not judged, as ava_val_excluded_timestamps_v2.2.csv."""
    detections: str = ""
    """Detected boxes of `val` with scores (default: the annotated boxes are given)."""
    min_score: float = field(default=0.8, metadata=between(0, 1))
    """Minimum score of a detected box."""
    probe: str = ""
    """File of a head that was trained before, instead of `train`."""
    start_s: float = field(default=0.0, metadata=between(0, 1e6, "s"))
    """Time of the videos' first frame in the annotations; 900 for videos cut to minutes 15 to
    30."""
    encoder: str = "vjepa2-vitl"
    """Frozen encoder: a published or embedded name, or a file."""
    num_frames: int = field(default=16, metadata=COUNT)
    """Number of frames of a clip around a keyframe."""
    frame_step: int = field(default=4, metadata=COUNT)
    """Number of video frames per frame of the clip."""
    levels: Levels = "four"
    """Encoder blocks whose features are joined: the last one, or the four published ones."""
    epochs: int = field(default=30, metadata=COUNT)
    """Number of passes over the training boxes."""
    batch_size: int = field(default=64, metadata=COUNT)
    """Number of boxes of an update."""
    lr: float = field(default=1e-4, metadata=between(1e-12, 10))
    """Learning rate after two epochs of warm-up; it falls to a hundredth along a cosine."""
    weight_decay: float = field(default=0.05, metadata=between(0, 10))
    """Weight decay."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Seed of the head and of the order of the boxes."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of encoder and head."""
    precision: Precision = "auto"
    """Data type of the encoder's weights (auto: bfloat16 on CUDA devices that have it, else
    float32)."""
    out: str = "runs/probe-boxes"
    """Folder of features, head, curves and summary; a second run resumes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("val", self.val), ("actions", self.actions), ("videos", self.videos)):
            if not value:
                raise ConfigError(f"{name}= is empty: give a path")
        if bool(self.train) == bool(self.probe):
            raise ConfigError(
                "give either train=FILE, to train a head, or probe=FILE, to judge one"
            )
