"""The one image transform, under the name that data readers and scripts import it by."""

from worldmodel.models.preprocess import Preprocess, check_frames, droid_region, resize

__all__ = ["Preprocess", "check_frames", "droid_region", "resize"]
