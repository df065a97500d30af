"""Images with a depth or a class for every pixel, in folders.

Shapes: H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from worldmodel.data.files import Links, links_outside
from worldmodel.data.pictures import read_picture
from worldmodel.errors import DataError
from worldmodel.perception.dense.config import Task
from worldmodel.perception.images import is_image

FOLDERS = {"depth": "depth", "segmentation": "labels"}
"""Task -> folder of its PNG files."""
VOID = 255
"""Class number of pixels without a class."""
MODES = {"depth": ("I;16", "I;16B", "I"), "segmentation": ("L", "P")}
"""Task -> Pillow's names of the kinds of picture that it takes."""


@dataclass(frozen=True)
class DenseItem:
    """An image and the truth about its pixels."""

    name: str
    image: Path
    truth: Path


def find_items(
    folder: Path, task: Task, rejected: dict[str, str], links: Links = "inside"
) -> list[DenseItem]:
    """Return the images that have a truth, in the order of their names.

    Args:
        folder: Folder with `images`, and `depth` or `labels`.
        task: What is read.
        rejected: Takes the names of the other images, with the reason.
        links: Whether linked files must stay inside the folder, or may lead anywhere.

    Raises:
        DataError: There is none.
    """
    found: list[DenseItem] = []
    paths = sorted(path for path in (folder / "images").glob("*") if is_image(path))
    for path in paths:
        truth = folder / FOLDERS[task] / f"{path.stem}.png"
        outside = links_outside((path, truth), folder, links)
        if outside:
            rejected[path.stem] = "; ".join(outside.values())
        elif not truth.is_file():
            rejected[path.stem] = f"there is no {truth}"
        elif found and found[-1].name == path.stem:
            rejected[path.name] = f"{found[-1].image.name} has the same {truth}"
        else:
            found.append(DenseItem(path.stem, path, truth))
    if not found:
        raise DataError(
            f"{folder} has {len(paths)} pictures in images, and none of the same name in "
            f"{FOLDERS[task]}: give a folder with both"
        )
    return found


def read_truth(item: DenseItem, task: Task, depth_scale: float, size: tuple[int, int]) -> Tensor:
    """Return the depth of each pixel [H, W] float32 [m], NaN if unknown; or its class, int64.

    Args:
        item: Names the file.
        task: What is read.
        depth_scale: Depth of one unit [m].
        size: Height and width of the image; a truth of another size is not decoded.

    Raises:
        DataError: The file is damaged, of another kind or of another size.
    """
    try:
        with Image.open(item.truth) as image:
            if image.size[::-1] != size:
                raise DataError(f"{item.image} has size {size}, its truth {image.size[::-1]}")
            mode, values_HW = image.mode, np.array(image)
    except DataError:
        raise
    except Exception as error:  # Pillow raises errors of any kind on a damaged file
        raise DataError(f"{item.truth} cannot be read as an image: {error}") from error
    if mode not in MODES[task]:
        wanted = "16-bit grey" if task == "depth" else "8-bit grey or palette"
        raise DataError(f"{item.truth} has mode {mode}; a {wanted} picture is needed")
    if task == "segmentation":
        return torch.from_numpy(values_HW.astype(np.int64))
    depth_HW = torch.from_numpy(values_HW.astype(np.float32))
    return torch.where(depth_HW > 0, depth_HW * depth_scale, torch.nan)


def read_item(item: DenseItem, task: Task, depth_scale: float) -> tuple[Tensor, Tensor]:
    """Return an image, uint8 RGB [H, W, 3], and its truth [H, W].

    Raises:
        DataError: A file cannot be read, their sizes differ, or no pixel has a truth.
    """
    frame = torch.from_numpy(read_picture(item.image))
    height, width = frame.shape[:2]
    truth = read_truth(item, task, depth_scale, (height, width))
    known = truth != VOID if task == "segmentation" else truth.isfinite()
    if not known.any():
        raise DataError(f"no pixel of {item.truth} has a {task} value")
    return frame, truth
