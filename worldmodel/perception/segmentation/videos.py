"""Follow the objects of DAVIS's videos, and score the masks.

| file | content |
|---|---|
| `ImageSets/2017/val.txt` | names of the sequences, one a line |
| `JPEGImages/480p/NAME/00000.jpg` | frames |
| `Annotations/480p/NAME/00000.png` | masks with the objects' numbers, 0 for the background |
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from worldmodel.atomic_io import atomic_file
from worldmodel.data.cache import code_digest, digest_of
from worldmodel.data.files import read_text
from worldmodel.data.pictures import read_picture
from worldmodel.errors import DataError
from worldmodel.kept_results import KeptResults
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.model_hash import model_hash
from worldmodel.perception.hdf5_file import source_stamp
from worldmodel.perception.segmentation.label_propagation import Propagation, frame_tokens
from worldmodel.perception.segmentation.mask_scores import score_masks
from worldmodel.perception.segmentation.options import PropagationOptions

log = logging.getLogger(__name__)
MaskImage = NDArray[np.uint8]
VOID = 255
"""Value of pixels without an object number in DAVIS's masks; they count as background."""


@dataclass(frozen=True)
class ObjectVideo:
    """Frames and masks of a video."""

    name: str
    frames: list[Path]
    masks: list[Path]


@dataclass(frozen=True)
class Segmented:
    """J and F of the objects of each sequence, and the sequences that cannot be used."""

    scores: dict[str, dict[str, tuple[float, float]]]
    """Sequence -> object -> J and F, 0..1."""
    rejected: dict[str, str]

    def mean(self) -> tuple[float, float]:
        """Return J and F, means over all objects of all sequences, as DAVIS 2017 reports them."""
        rows = [pair for objects in self.scores.values() for pair in objects.values()]
        j, f = np.mean(rows, axis=0)
        return float(j), float(f)


def find_sequences(
    root: Path, names: Path, resolution: str
) -> tuple[list[ObjectVideo], dict[str, str]]:
    """Find the sequences of a list; return them and the reasons for rejecting others.

    Raises:
        DataError: The list cannot be read, or no sequence is complete.
    """
    found: list[ObjectVideo] = []
    rejected: dict[str, str] = {}
    for name in (line.strip() for line in read_text(names).splitlines()):
        if not name:
            continue
        frames = sorted((root / "JPEGImages" / resolution / name).glob("*.jpg"))
        masks = sorted((root / "Annotations" / resolution / name).glob("*.png"))
        if len(frames) < 3 or [p.stem for p in frames] != [p.stem for p in masks]:
            rejected[name] = (
                f"has {len(frames)} frames and {len(masks)} masks; needed: 3 or more of both"
            )
        else:
            found.append(ObjectVideo(name, frames, masks))
    if not found:
        reason = next(iter(rejected.values()), "the list is empty")
        raise DataError(f"{root} has no complete sequence of {names} ({reason})")
    return found, rejected


def read_mask(path: Path) -> MaskImage:
    """Read the objects' numbers [H, W] of a palette or grey picture.

    Raises:
        DataError: The file is damaged or of another kind.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L"):
                raise DataError(f"{path} has mode {image.mode}; needed: a palette or grey picture")
            numbers = np.array(image)
    except DataError:
        raise
    except Exception as error:  # Pillow raises errors of many kinds
        raise DataError(f"{path} cannot be read as an image: {error}") from error
    return np.where(numbers == VOID, 0, numbers).astype(np.uint8)


def segment(
    encoder: FrameEncoder, sequence: ObjectVideo, options: PropagationOptions
) -> list[MaskImage]:
    """Return the masks of all frames, the first one as given.

    Raises:
        DataError: A frame or the first mask is damaged, or their sizes differ.
    """
    first = read_mask(sequence.masks[0])
    masks = [first]
    propagation: Propagation | None = None
    for path in sequence.frames:
        frame = torch.from_numpy(read_picture(path))
        if frame.shape[:2] != first.shape:
            raise DataError(f"{path} has size {tuple(frame.shape[:2])}, its mask {first.shape}")
        tokens = frame_tokens(encoder, frame, options.short_side)
        if propagation is None:
            propagation = Propagation(tokens, first, options)
        else:
            masks.append(propagation.step(tokens))
    return masks


def segment_all(
    encoder: FrameEncoder,
    sequences: list[ObjectVideo],
    rejected: dict[str, str],
    options: PropagationOptions,
    out: Path,
) -> Segmented:
    """Segment and score sequences; write their masks to `out`.

    A stopped run resumes with the sequences that it has not measured.

    Raises:
        DataError: No sequence can be used.
    """
    made_by = {"model": model_hash(encoder), "options": asdict(options), "code": code_digest()}
    scores: dict[str, dict[str, tuple[float, float]]] = {}
    rejected = dict(rejected)
    with KeptResults(out / "measured.jsonl", made_by, _are_scores) as kept:
        for sequence in _progress(sequences):
            try:
                stamps = [source_stamp(path) for path in (*sequence.frames, *sequence.masks)]
                key = f"{sequence.name} {digest_of(stamps)}"
                if kept.get(key) is None:
                    kept.add(key, _measure(encoder, sequence, options, out))
                rows = cast(dict[str, list[float]], kept.get(key))
                scores[sequence.name] = {name: (row[0], row[1]) for name, row in rows.items()}
            except DataError as error:
                log.warning("%s: %s", sequence.name, error)
                rejected[sequence.name] = str(error)
    if not scores:
        raise DataError(f"no sequence can be used: {rejected}")
    return Segmented(scores, rejected)


def _measure(
    encoder: FrameEncoder, sequence: ObjectVideo, options: PropagationOptions, out: Path
) -> dict[str, list[float]]:
    masks = segment(encoder, sequence, options)
    found = score_masks(masks, [read_mask(path) for path in sequence.masks])
    for path, mask in zip(sequence.masks, masks, strict=True):
        with atomic_file(out / "masks" / sequence.name / path.name) as part:
            Image.fromarray(mask).save(part, format="PNG")
    return {str(number): list(pair) for number, pair in found.items()}


def _are_scores(value: object) -> bool:
    """Return whether a kept value has two numbers for each object."""
    if not isinstance(value, dict) or not value:
        return False
    rows = [row for row in value.values() if isinstance(row, list) and len(row) == 2]
    return len(rows) == len(value) and all(isinstance(x, float) for row in rows for x in row)


def _progress(sequences: list[ObjectVideo]) -> Iterable[ObjectVideo]:
    shown: Iterable[ObjectVideo] = tqdm(sequences, desc="sequences", unit="video")
    return shown
