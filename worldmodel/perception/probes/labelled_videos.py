"""Read lists and folders of labelled videos and images, and the clips of an item.

A missing, damaged, too short or mislabelled item is reported with its reason and never replaced by
another.

Shapes: K segments, V views, T frames, H W pixels.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor

from worldmodel.data.files import Links, links_outside, list_files, read_text
from worldmodel.data.pictures import read_picture
from worldmodel.data.video import VideoFrames, inspect_video
from worldmodel.errors import DataError
from worldmodel.perception.clip_sampling import ClipSampling, frame_numbers
from worldmodel.perception.features.extract import SUFFIXES
from worldmodel.perception.images import IMAGES, is_image
from worldmodel.perception.views import evaluation_views

PATH_COLUMNS = ("path", "video", "file", "filename", "file_name", "image", "video_path")
LABEL_COLUMNS = ("label", "class", "label_id", "class_id", "target")
WHOLE = re.compile(r"-?[0-9]{1,9}")
TRAILING = re.compile(r"\s*(?:,|;|::)\s*$")
"""Separator before a space, as in `path, label`."""
MAX_CLASSES = 1_000_000
"""Maximum number of classes where a list does not say."""
SEPARATORS = (" ", "::", ",", "\t", ";")
"""Separators of path and label; the last one in a line counts, so paths may have spaces."""
DELIMITERS = (",", ";", "\t")
"""Separators of a file with a header."""


@dataclass(frozen=True)
class LabelledItem:
    """A video or image file and its class index."""

    path: Path
    label: int


@dataclass(frozen=True)
class LabelledItems:
    """Usable items of a list or folder, and the reasons for rejecting others."""

    items: tuple[LabelledItem, ...]
    rejected: dict[str, str]
    """Line or path -> reason."""
    classes: tuple[str, ...] = ()
    """Class names, if known."""


def read_items(
    source: str, root: str, num_classes: int = 0, *, links: Links = "inside"
) -> LabelledItems:
    """Read a list, or a folder with one folder a class.

    Args:
        source: List or folder.
        root: See `read_list`.
        num_classes: See `read_list`.
        links: Where linked files of a folder may lead; a list names any file.

    Raises:
        DataError: It holds no usable item.
    """
    if Path(source).is_dir():
        return read_class_folders(Path(source), links)
    return read_list(Path(source), root=Path(root) if root else None, num_classes=num_classes)


def read_list(
    path: Path, *, root: Path | None = None, num_classes: int = 0, classes: Sequence[str] = ()
) -> LabelledItems:
    """Read a list of files and labels.

    Lines are `path label`, `path::label` or `path,label`, or the file is a CSV with a header that
    names a path and a label column. Paths may contain spaces, and stand in double quotes.

    Args:
        path: List file.
        root: Base folder of relative paths; None uses the list's own folder.
        num_classes: Number of classes, to check labels; 0 uses the length of `classes`, if any.
        classes: Class names, which labels may then use.

    Raises:
        DataError: The list cannot be read, or has no usable line.
    """
    lines = read_text(path).split("\n")  # names may have other characters that end lines
    number = {name: i for i, name in enumerate(classes)}
    limit, folder = num_classes or len(classes), root or path.parent
    found: dict[Path, LabelledItem] = {}
    items: list[LabelledItem] = []
    rejected: dict[str, str] = {}
    for line, pair in _pairs(lines, number):
        try:
            item = _item(pair, folder, number, limit)
            if found.setdefault(item.path, item).label != item.label:
                earlier = found[item.path].label
                raise DataError(f"{item.path} has label {item.label} here and {earlier} above")
            items.append(item)
        except DataError as error:
            rejected[f"{path.name}:{line}"] = str(error)
    if not items:
        first = ": ".join(next(iter(rejected.items()), ("it is empty",)))
        raise DataError(f"{path} has no usable line; the first reason: {first}")
    return LabelledItems(tuple(items), rejected, tuple(classes))


def _pairs(lines: list[str], number: dict[str, int]) -> Iterator[tuple[int, tuple[str, str]]]:
    """Yield the line number, path and label of every non-empty line."""
    found = (_columns(lines[0], delimiter) for delimiter in DELIMITERS)
    where, what, delimiter = next((c for c in found if c), (-1, -1, ""))
    for line, text in enumerate(lines[1:] if delimiter else lines, start=1 + bool(delimiter)):
        if not text.strip():
            continue
        if delimiter:
            row = _fields(text, delimiter)
            whole = max(where, what) < len(row)
            yield line, (row[where], row[what]) if whole else (text, "")
        else:
            yield line, _split(text.strip(), number)


def _columns(header: str, delimiter: str) -> tuple[int, int, str] | None:
    """Return the columns of path and label in a header, and the delimiter; None if it has none."""
    names = [name.strip().lower() for name in _fields(header, delimiter)]
    where = next((names.index(name) for name in PATH_COLUMNS if name in names), None)
    what = next((names.index(name) for name in LABEL_COLUMNS if name in names), None)
    return None if where is None or what is None else (where, what, delimiter)


def _fields(line: str, delimiter: str) -> list[str]:
    """Return the fields of a CSV line; none if it is not one."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _split(text: str, number: dict[str, int]) -> tuple[str, str]:
    """Split a line at the separator before the label."""
    for separator in SEPARATORS:
        path, _, label = text.rpartition(separator)
        label = _unquoted(label)
        if path and (label in number or WHOLE.fullmatch(label)):
            return _unquoted(TRAILING.sub("", path)), label
    present = next((s for s in SEPARATORS if s in text), "\0")
    path, _, label = text.rpartition(present)
    return (path, label) if path else (text, "")


def _unquoted(text: str) -> str:
    """Return a text without spaces around it, and without the double quotes of a CSV field."""
    text = text.strip()
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1].replace('""', '"') if quoted else text


def _item(pair: tuple[str, str], folder: Path, number: dict[str, int], limit: int) -> LabelledItem:
    name, label = pair[0].strip(), pair[1].strip()
    if label not in number and not WHOLE.fullmatch(label):
        raise DataError(
            f"{name[:200]!r} has label {label[:200]!r}: use a class number or a known class name"
        )
    index = number[label] if label in number else int(label)
    if not 0 <= index < (limit or MAX_CLASSES):
        allowed = f"0..{(limit or MAX_CLASSES) - 1}"
        raise DataError(f"{name[:200]!r} has label {index}; allowed: {allowed}")
    try:
        is_file = (folder / name).is_file()
    except OSError:  # a name that is longer than a file's may be
        is_file = False
    if not is_file:
        raise DataError(f"there is no file {str(folder / name)[:500]}")
    return LabelledItem(folder / name, index)


def read_class_folders(root: Path, links: Links = "inside") -> LabelledItems:
    """List the images and videos of a folder with one subfolder per class, in sorted order.

    Hidden subfolders, such as `.ipynb_checkpoints`, are no classes.

    Args:
        root: Folder of the class folders.
        links: Whether linked files must stay inside the folder, or may lead anywhere.

    Raises:
        DataError: There is no class folder, or no file in any.
    """
    folders = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    names = sorted(path.name for path in folders if not path.name.startswith("."))
    known = SUFFIXES | IMAGES
    items, rejected = [], dict[str, str]()
    for label, name in enumerate(names):
        paths = list_files(root / name)
        reasons = links_outside(paths, root, links)
        for path in paths:
            if path.suffix.lower() not in known:
                reasons[path] = "neither a video nor an image"
            elif path not in reasons:
                items.append(LabelledItem(path, label))
        rejected |= {path.relative_to(root).as_posix(): why for path, why in reasons.items()}
    if not items:
        first = next((f" ({name}: {why})" for name, why in rejected.items()), "")
        raise DataError(
            f"{root} holds no files in class folders{first}: expected {root}/CLASS/FILE"
        )
    return LabelledItems(tuple(items), rejected, tuple(names))


def num_classes_of(found: LabelledItems) -> int:
    """Return the number of classes that items have."""
    return max(max(item.label for item in found.items) + 1, len(found.classes))


def remarks(train: LabelledItems, val: LabelledItems, num_classes: int) -> list[str]:
    """Return what makes a result doubtful although every item can be used."""
    known, found = {item.label for item in train.items}, []
    if unseen := num_classes - len(known):
        lost = sum(item.label not in known for item in val.items)
        found.append(
            f"{unseen} of {num_classes} classes have no training item; {lost} items of "
            "val are of such classes"
        )
    if both := len({*map(_absolute, train.items)} & {*map(_absolute, val.items)}):
        found.append(f"{both} items of val are training items as well")
    if again := sum(len(p.items) - len({*map(_absolute, p.items)}) for p in (train, val)):
        found.append(f"{again} lines of train and val repeat an item, which counts each time")
    return found


def _absolute(item: LabelledItem) -> Path:
    return item.path.absolute()


def read_clips(
    path: Path,
    sampling: ClipSampling,
    *,
    crop: int,
    num_views: int = 1,
    generator: RandomState | None = None,
) -> Tensor:
    """Read the clips of a video, or an image repeated as a clip, as views for evaluation.

    Args:
        path: Video or image file.
        sampling: Clip sampling options; an image is one segment.
        crop: Side of a view [px].
        num_views: Number of views per clip.
        generator: Random generator for random sampling.

    Returns:
        uint8 [K, V, T, crop, crop, 3].

    Raises:
        DataError: The file is missing, damaged or too short; the message names it.
    """
    frames, places_KT = read_frames(path, sampling, generator)
    views = evaluation_views(frames, crop, num_views)
    return views[:, places_KT].transpose(0, 1)


def read_frames(
    path: Path, sampling: ClipSampling, generator: RandomState | None = None
) -> tuple[Tensor, Tensor]:
    """Read the frames of the clips of a video, or an image repeated as a clip, each frame once.

    Returns:
        Frames uint8 [F, H, W, 3], and the index among them of each frame of the clips, int64
        [K, T].

    Raises:
        DataError: The file is missing, damaged or too short; the message names it.
    """
    if is_image(path):
        image = torch.from_numpy(read_picture(path))[None]
        return image, torch.zeros(1, sampling.num_frames, dtype=torch.int64)
    facts = inspect_video(path, decode=False)
    played, rate = facts.played() if sampling.is_timed else (np.arange(facts.frames), 0.0)
    try:
        numbers_KT = played[
            frame_numbers(len(played), sampling, video_fps=rate, generator=generator)
        ]
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    wanted, place = np.unique(numbers_KT, return_inverse=True)
    frames = torch.from_numpy(VideoFrames(path, facts.frames).read(wanted))
    return frames, torch.from_numpy(place.reshape(numbers_KT.shape))
