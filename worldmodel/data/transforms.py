"""Image transform, re-exported for data readers and scripts."""

from worldmodel.models.preprocess import Preprocess, check_frames, droid_region, resize

__all__ = ["Preprocess", "check_frames", "droid_region", "resize"]
