"""In-memory clips of short episodes, for fast training of small models.

Shapes: B clips, K frames of a clip, H W pixels, S state (7), A action (7).
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np

from worldmodel.data.flat_arrays import FIELDS, FPS, MAX_REJECT_FRACTION, DecodeOptions, decoded
from worldmodel.specs import Transform


class MemoryClips:
    """Every window of `num_frames` consecutive frames of every sequence."""

    def __init__(self, folder: Path, num_frames: int) -> None:
        self.num_frames = num_frames
        self.arrays: dict[str, np.ndarray] = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r" if name == "frames" else None)
            for name in FIELDS
        }
        starts = np.load(folder / "starts.npy")
        firsts = [np.arange(a, b - num_frames + 1) for a, b in itertools.pairwise(starts)]
        self.firsts = np.concatenate(firsts)
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        self.sent: bool = facts["sent"]
        """Whether actions are those sent (with a gripper command), not differences of states."""

    @property
    def labelled(self) -> bool:
        """Return whether every frame has a simulated object position."""
        return bool(np.isfinite(self.arrays["objects"]).all())

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.firsts)

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return frames uint8 [B,K,H,W,3], states [B,K,S], actions [B,K-1,A], objects [B,K,3]."""
        steps = self.firsts[indices][:, None] + np.arange(self.num_frames)
        out = {name: np.asarray(self.arrays[name][steps]) for name in FIELDS}
        out["actions"] = np.ascontiguousarray(out["actions"][:, :-1])
        return out


def open_clips(
    root: str | Path,
    num_frames: int,
    image_size: int,
    *,
    transform: Transform = "droid",
    camera: str = "left",
    fps: float = FPS,
    workers: int = 2,
    max_reject_fraction: float = MAX_REJECT_FRACTION,
    cache: str | Path = "",
) -> MemoryClips:
    """Open the clips of the episodes under `root`, indexing and decoding them on first use.

    Args:
        root: Folder of raw DROID, RLDS or LeRobot episodes; it is never written to.
        num_frames: Frames of a clip.
        image_size: Height and width of the frames [px].
        transform: Kind of the image transform, see `Preprocess`.
        camera: View to decode: `left`, `right`, `wrist` or a serial number.
        fps: Frames per second [Hz]; faster recordings are subsampled by their timestamps.
        workers: Number of decoding processes.
        max_reject_fraction: Maximum fraction of episodes that may be rejected, 0 to 1.
        cache: Folder of the decoded arrays; empty for the default, see `cache_root`.

    Raises:
        DataError: There is no episode, or more were rejected than allowed; the message lists the
            reasons.
        ConfigError: The cache folder is not writable.
    """
    options = DecodeOptions(image_size=image_size, transform=transform, camera=camera, fps=fps)
    with decoded(
        Path(root), options, workers=workers, max_reject_fraction=max_reject_fraction, cache=cache
    ) as folder:
        return MemoryClips(folder, num_frames)
