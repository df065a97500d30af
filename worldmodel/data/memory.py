"""In-memory clips of short episodes, for fast training of small models.

Shapes: B clips, K frames of a clip, V views, F frames of all sequences, H W pixels, N tokens, D
width, S state (7), A action (7).
"""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Literal, Self

import numpy as np

from worldmodel.data.files import Links
from worldmodel.data.flat_arrays import FIELDS, FPS, MAX_REJECT_FRACTION, DecodeOptions, decoded
from worldmodel.data.hindsight import hindsight_labels
from worldmodel.data.position_clips import without_rotation
from worldmodel.data.readers.options import CONTROL_HZ
from worldmodel.errors import DataError
from worldmodel.specs import ActionSpec, ObservationSpec, Transform

PoseLabels = Literal["none", "hindsight", "simulator"]
"""Source of the object poses of clips: none, the robot states in hindsight, or a simulator."""


class MemoryClips:
    """Every window of `num_frames` consecutive frames of every sequence."""

    def __init__(
        self,
        folder: Path,
        num_frames: int,
        *,
        labels: PoseLabels = "none",
        contact_share: float = 0.0,
        hindsight_share: float = 0.0,
        rotation: bool = True,
    ) -> None:
        """Open decoded arrays.

        Args:
            folder: Folder of the arrays, see `worldmodel.data.flat_arrays`.
            num_frames: Frames of a clip.
            labels: Source of the object poses in batches, see `batch`.
            contact_share: Minimum share of clips in which the fingers hold or may touch an object,
                as the robot states tell; such clips are repeated as often as that needs.
            hindsight_share: Minimum share of clips that start with an object on the table, away
                from the fingers, whose pose hindsight tells; they are repeated likewise.
            rotation: Whether states and actions are poses [7]; otherwise they have no rotation [4].

        Raises:
            DataError: No episode holds two frames, or a share is set and no clip counts for it.
        """
        self.num_frames = num_frames
        self.arrays: dict[str, np.ndarray] = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r" if name == "frames" else None)
            for name in FIELDS
        }
        self.starts: np.ndarray = np.load(folder / "starts.npy")
        """First frame of each sequence, and the number of all frames."""
        starts = self.starts
        firsts = [np.arange(a, b - num_frames + 1) for a, b in itertools.pairwise(starts)]
        if not firsts:
            raise DataError(
                "No episode holds two frames at this rate: raise fps, or record longer episodes"
            )
        self.firsts = np.concatenate(firsts)
        if labels == "hindsight" or contact_share or hindsight_share:
            found = [
                hindsight_labels(self.arrays["states"][a:b]) for a, b in itertools.pairwise(starts)
            ]
        if labels == "simulator":
            self.arrays["labels"] = self.arrays["poses"]
        if labels == "hindsight":
            poses = [np.column_stack([label.position_T3, label.yaw_T]) for label in found]
            self.arrays["labels"] = np.concatenate(poses)[:, None]
        if contact_share:
            before_F = np.r_[0, np.cumsum(np.concatenate([x.contact_T for x in found]))]
            has_contact = before_F[self.firsts + num_frames] > before_F[self.firsts]
            self._repeat(has_contact, contact_share, "contact_share")
        if hindsight_share:
            lying_F = np.concatenate([~np.isnan(x.yaw_T) & ~x.contact_T for x in found])
            self._repeat(lying_F[self.firsts], hindsight_share, "hindsight_share")
        if not rotation:
            for name in ("states", "actions"):
                self.arrays[name] = without_rotation(self.arrays[name])
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        self.sent: bool = facts["sent"]
        """Whether actions are those sent (with a gripper command), not differences of states."""
        self._content: str = facts["content"]

    def _repeat(self, counts_C: np.ndarray, share: float, option: str) -> None:
        """Append clips that count, in order and repeatedly, until they have their share."""
        chosen = self.firsts[counts_C]
        if not len(chosen):
            raise DataError(
                f"{option}={share:g}, and the fingers hold nothing in any of {len(self.firsts)} "
                f"clips: set {option}=0, or collect grasps"
            )
        missing = (share * len(self.firsts) - len(chosen)) / (1 - share)
        self.firsts = np.concatenate([self.firsts, np.resize(chosen, max(0, round(missing)))])

    @property
    def labelled(self) -> bool:
        """Return whether every frame has a simulated object position."""
        return bool(np.isfinite(self.arrays["objects"]).all())

    @property
    def posed(self) -> bool:
        """Return whether every frame has the simulated poses of its objects."""
        return bool(np.isfinite(self.arrays["poses"][:, 0, :3]).all())

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.firsts)

    def content_hash(self) -> str:
        """Return the hash of the decoded arrays."""
        return self._content

    def steps(self, indices: np.ndarray) -> np.ndarray:
        """Return the frame numbers [B, K] of clips, among the frames of all sequences."""
        steps_BK: np.ndarray = self.firsts[indices][:, None] + np.arange(self.num_frames)
        return steps_BK

    @property
    def served(self) -> dict[str, np.ndarray]:
        """Arrays by frame that batches consist of."""
        return {name: array for name, array in self.arrays.items() if name != "poses"}

    def with_tokens(self, tokens_FND: np.ndarray) -> Self:
        """Return the same clips with an encoder's tokens in place of the frames."""
        clips = copy.copy(self)
        clips.arrays = {**self.arrays, "features": tokens_FND}
        del clips.arrays["frames"]
        return clips

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return frames uint8 [B,K,H,W,3], states [B,K,S], actions [B,K-1,A], objects [B,K,3].

        Frames of several views are [B,K,V,H,W,3]. Tokens in place of the frames are `features`
        float32 [B,K,N,D]. With labels there are also `labels` [B,K,L,4]: position [m] and yaw [rad]
        of L objects, NaN where they are unknown. They are the grasped object, L = 1, with
        labels=hindsight (`worldmodel.data.hindsight`), and all objects of the scene with
        labels=simulator.
        """
        steps_BK = self.steps(indices)
        out = {name: np.asarray(array[steps_BK]) for name, array in self.served.items()}
        out["actions"] = np.ascontiguousarray(out["actions"][:, :-1])
        if "features" in out:
            out["features"] = out["features"].astype(np.float32)
        return out


def open_clips(
    root: str | Path,
    num_frames: int,
    image_size: int,
    *,
    transform: Transform = "droid",
    camera: str = "left",
    views: tuple[str, ...] = (),
    links: Links = "inside",
    rlds_fps: float = CONTROL_HZ,
    fps: float = FPS,
    workers: int = 2,
    max_reject_fraction: float = MAX_REJECT_FRACTION,
    cache: str | Path = "",
    labels: PoseLabels = "none",
    contact_share: float = 0.0,
    hindsight_share: float = 0.0,
    rotation: bool = True,
) -> MemoryClips:
    """Open the clips of the episodes under `root`, indexing and decoding them on first use.

    Args:
        root: Folder of raw DROID, RLDS or LeRobot episodes, which is never written to, or of an
            index of them.
        num_frames: Frames of a clip.
        image_size: Height and width of the frames [px].
        transform: Kind of the image transform, see `Preprocess`.
        camera: View to decode: `left`, `right`, `wrist` or a serial number.
        views: Views to decode, in order, the first of which is `camera`; empty for `camera` alone.
        links: Where links in the data may lead, see `ReadOptions`.
        rlds_fps: Control rate of an RLDS data set [Hz].
        fps: Frames per second [Hz]; faster recordings are subsampled by their timestamps.
        workers: Number of decoding processes.
        max_reject_fraction: Maximum fraction of episodes that may be rejected, 0 to 1.
        cache: Folder of the decoded arrays; empty for the default, see `cache_root`.
        labels: Source of the object poses, see `MemoryClips`.
        contact_share: Minimum share of clips with contacts, see `MemoryClips`.
        hindsight_share: Minimum share of clips that start with a label, see `MemoryClips`.
        rotation: Whether states and actions have a rotation, see `MemoryClips`.

    Raises:
        DataError: There is no episode, or more were rejected than allowed; the message lists the
            reasons.
        ConfigError: The cache folder is not writable.
    """
    options = DecodeOptions(
        image_size=image_size,
        transform=transform,
        camera=views[0] if views else camera,
        views=views if len(views) > 1 else (),
        fps=fps,
        links=links,
        rlds_fps=rlds_fps,
    )
    with decoded(
        Path(root), options, workers=workers, max_reject_fraction=max_reject_fraction, cache=cache
    ) as folder:
        return MemoryClips(
            folder,
            num_frames,
            labels=labels,
            contact_share=contact_share,
            hindsight_share=hindsight_share,
            rotation=rotation,
        )


def open_clips_for(
    observation: ObservationSpec,
    action: ActionSpec,
    root: str | Path,
    num_frames: int,
    *,
    links: Links = "inside",
    rlds_fps: float = CONTROL_HZ,
    cache: str | Path = "",
    labels: PoseLabels = "none",
) -> MemoryClips:
    """Open clips with the transform, cameras and period of a trained model.

    Args:
        observation: Images of the model.
        action: Its actions, whose period the frames have.
        root: Folder of the data set.
        num_frames: Frames of a clip.
        links: Where links in the data may lead.
        rlds_fps: Control rate of an RLDS data set [Hz].
        cache: Folder of the decoded arrays; empty for the default.
        labels: Source of the object poses.

    Raises:
        DataError: There is no episode, or too many were rejected.
        ConfigError: The cache folder is not writable.
    """
    return open_clips(
        root,
        num_frames,
        observation.image_size[0],
        transform=observation.transform,
        views=observation.cameras,
        fps=1 / action.period_s,
        links=links,
        rlds_fps=rlds_fps,
        cache=cache,
        labels=labels,
    )
