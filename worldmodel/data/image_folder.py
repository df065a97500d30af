"""Images of a folder for training: random resized crops, and centre crops for measurements.

Shapes: B images, H W pixels.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from worldmodel.checked import Checked, between
from worldmodel.data.episode import EpisodeError, Frames
from worldmodel.data.files import Links, list_files, require_file
from worldmodel.data.pictures import read_picture
from worldmodel.data.transforms import Preprocess
from worldmodel.errors import DataError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
"""File suffixes of images."""
ASPECT = (3 / 4, 4 / 3)
"""Range of a random crop's width over height."""
TRIES = 10
"""Draws of a random crop, after which the largest centre crop is taken."""
log = logging.getLogger(__name__)
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class ImageOptions(Checked):
    """How images of a folder are read."""

    size: int = field(default=224, metadata=between(1, 16384, "px"))
    """Height and width of the crops."""
    crop_scale: tuple[float, float] = field(default=(0.3, 1.0), metadata=between(0.001, 1))
    """Range of the share of the image's area in a random crop."""
    links: Links = "inside"
    """Whether linked files must stay inside the folder."""
    max_reject_fraction: float = field(default=0.5, metadata=between(0, 1))
    """Maximum share of images that may be unreadable."""
    workers: int = field(default=2, metadata=between(1, 1024))
    """Number of decoding threads."""


def random_box(
    height: int, width: int, scale: tuple[float, float], rng: np.random.Generator
) -> Box:
    """Draw the left, top, right and bottom of a random resized crop [px].

    The share of the area is uniform in `scale`, and the aspect ratio is uniform in its logarithm.
    An image too narrow for it gives the largest centre crop of an allowed aspect ratio.

    Source: Szegedy et al., arXiv 1409.4842, sec. 6; I-JEPA (arXiv 2301.08243) uses (0.3, 1).
    """
    for _ in range(TRIES):
        area = height * width * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
            return float(left), float(top), float(left + w), float(top + h)
    widest, highest = min(width, height * ASPECT[1]), min(height, width / ASPECT[0])
    edge_x, edge_y = (width - widest) / 2, (height - highest) / 2
    return edge_x, edge_y, edge_x + widest, edge_y + highest


class ImageFolder:
    """All images under a folder, in the order of their names; a source of clips of one frame.

    Every file is opened once at the start, without decoding all of it. An image that cannot be read
    is left out and named in `rejects`; one that turns out to be damaged later is left out of its
    batch. It is never replaced by another image.
    """

    def __init__(self, root: Path, options: ImageOptions) -> None:
        """Find the images.

        Raises:
            DataError: There is no readable image, or too many are unreadable.
        """
        self.root, self.options = root, options
        self.rejects: dict[str, str] = {}
        found = [path for path in list_files(root) if path.suffix.lower() in SUFFIXES]
        self.pool = ThreadPoolExecutor(options.workers)
        bar = tqdm(found, desc="images", unit="file", disable=len(found) < 1000)
        facts = list(self.pool.map(self._facts, bar))
        self.files = [path for path, fact in zip(found, facts, strict=True) if fact]
        self._digest = hashlib.sha256("".join(facts).encode()).hexdigest()[:16]
        if not self.files:
            known = ", ".join(sorted(SUFFIXES))
            raise DataError(
                f"{root} holds no readable image{self.describe_rejects()}: name a folder with "
                f"files of {known}"
            )
        self._check()

    def _facts(self, path: Path) -> str:
        """Return name, size and time of an image that opens; empty if it does not."""
        name = path.relative_to(self.root).as_posix()
        try:
            facts = require_file(path, self.root, links=self.options.links, missing="image_missing")
            with Image.open(path) as image:
                image.verify()
        except Exception as error:  # noqa: BLE001 - decoders raise anything
            self.rejects[name] = str(error) or type(error).__name__
            return ""
        return f"{name} {facts.st_size} {facts.st_mtime_ns}\n"

    def describe_rejects(self) -> str:
        """Return the first unreadable image and its reason, in brackets; empty if there is none."""
        return "".join(f" ({name}: {text})" for name, text in sorted(self.rejects.items())[:1])

    def _check(self) -> None:
        """Check the number of rejects.

        Raises:
            DataError: Too many images are unreadable.
        """
        total, limit = len(self.files) + len(self.rejects), self.options.max_reject_fraction
        if len(self.rejects) > limit * total:
            raise DataError(
                f"{len(self.rejects)} of {total} images under {self.root} are unreadable, more "
                f"than max_reject_fraction={limit:g}{self.describe_rejects()}: repair or remove "
                "them"
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def content_hash(self) -> str:
        """Return a hash of the names, sizes and times of all images."""
        return self._digest

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return centre crops as `frames` uint8 [B,1,H,W,3]; unreadable images are left out."""
        size = self.options.size
        whole = Preprocess("published", (size, size))

        def crop(image_HWC: Frames, _: int) -> Frames:
            return whole(torch.from_numpy(image_HWC)).numpy()

        return {"frames": self._read(indices, range(len(indices)), crop)[0][:, None]}

    def crops(self, indices: np.ndarray, seeds: Iterable[int]) -> tuple[Frames, np.ndarray]:
        """Return random resized crops, each drawn from its own seed.

        Args:
            indices: Numbers of the images.
            seeds: A seed for each.

        Returns:
            Crops uint8 [B,H,W,3] of the readable images, and bool [B], which images they are.
        """
        size, scale = self.options.size, self.options.crop_scale

        def crop(image_HWC: Frames, seed: int) -> Frames:
            height, width = image_HWC.shape[:2]
            box = random_box(height, width, scale, np.random.default_rng(seed))
            picture = Image.fromarray(image_HWC)
            return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box))

        return self._read(indices, seeds, crop)

    def _read(
        self, indices: np.ndarray, seeds: Iterable[int], crop: Callable[[Frames, int], Frames]
    ) -> tuple[Frames, np.ndarray]:
        def one(path: Path, seed: int) -> Frames | None:
            try:
                return crop(read_picture(path), seed)
            except (DataError, EpisodeError) as error:
                self.rejects[path.relative_to(self.root).as_posix()] = str(error)
                log.warning("%s is left out: %s", path, error)
                return None

        found = list(self.pool.map(one, [self.files[i] for i in indices], seeds))
        kept_B = np.array([image is not None for image in found], dtype=bool)
        self._check()
        size = self.options.size
        frames = [image for image in found if image is not None]
        return np.stack(frames) if frames else np.zeros((0, size, size, 3), np.uint8), kept_B
