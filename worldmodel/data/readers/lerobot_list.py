"""The description of a LeRobot data set: `meta/info.json`, the list of episodes, and their places.

A v3.0 file holds many episodes, so the places of all episodes are computed once, not per episode.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from worldmodel.data.episode import EpisodeError
from worldmodel.data.files import Links, inside, list_files, read_json, require_file
from worldmodel.data.readers.lerobot_spans import Row, Span, video_spans, whole_number
from worldmodel.errors import DataError

FRAMES = ("video", "image")
"""Types of the features that hold frames."""
VIEWS = ("exterior_1_left", "exterior_2_left", "wrist_left")
PLACE = re.compile(
    r"\{(video_key|(chunk_index|file_index|episode_chunk|episode_index)(:0?\d{1,2}d?)?)\}"
)
"""Place holders that a path template may have; others could ask for attributes or gigabytes."""


def _refuse(path: Path, key: str, value: object, allowed: str) -> DataError:
    return DataError(f"{path}: {key} is {str(value)[:200]!r}; allowed: {allowed}")


@lru_cache(maxsize=8)
def read_info(root: Path, links: Links = "inside") -> dict[str, Any]:
    """Read and check the `info.json` of a data set.

    Raises:
        DataError: The file cannot be read, its version is neither 2.x nor 3.x, or an entry that
            every episode depends on is missing or wrong; the message names file and key.
    """
    path = root / "meta" / "info.json"
    try:
        info = read_json(path, root, links=links, reason="info_unreadable")
    except EpisodeError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not isinstance(info, dict):
        raise DataError(f"{path} is not a JSON object")
    version = str(info.get("codebase_version")).removeprefix("v")
    if version[:2] not in {"2.", "3."}:
        raise _refuse(path, "codebase_version", version, "v2.x and v3.x")
    chunks = info.get("chunks_size")
    if version[0] == "2" and (type(chunks) is not int or chunks < 1):
        raise _refuse(path, "chunks_size", chunks, "a whole number from 1")
    fps = info.get("fps")
    if fps is not None and (type(fps) not in (int, float) or not 0.01 <= fps <= 1e5):
        raise _refuse(path, "fps", fps, "0.01 to 100,000 frames per second")
    if not isinstance(info.get("features", {}), dict):
        raise _refuse(path, "features", info["features"], "an object")
    _check_template(path, info, "data_path")
    if video_keys(info):
        _check_template(path, info, "video_path")
    return info


def _check_template(path: Path, info: dict[str, Any], name: str) -> None:
    """Check that a template has known place holders only, and those that tell files apart.

    Raises:
        DataError: It does not.
    """
    template = info.get(name)
    if not isinstance(template, str) or set(PLACE.sub("", template)) & {"{", "}"}:
        raise _refuse(path, name, template, "a path with {episode_index:06d} and the like")
    parts = template.replace("\\", "/").split("/")
    if not parts[0] or ".." in parts:  # out of the set: every episode is rejected for it
        return
    places = {found[0].strip("{}").partition(":")[0] for found in PLACE.finditer(template)}
    if not places & {"episode_index", "file_index"}:
        raise _refuse(path, name, template, "a path with {episode_index} or {file_index}")
    if name == "video_path" and len(video_keys(info)) > 1 and "video_key" not in places:
        raise _refuse(path, name, template, "a path with {video_key}: there are several views")


def view_keys(info: dict[str, Any]) -> dict[str, str]:
    """Return view -> feature of DROID's views that a data set has."""
    keys = {view: f"observation.images.{view}" for view in VIEWS}
    return {view: key for view, key in keys.items() if key in info.get("features", {})}


def frame_keys(info: dict[str, Any]) -> list[str]:
    """Return the features that hold frames, whatever their names are."""
    droid, features = view_keys(info).values(), info.get("features", {})
    return [key for key in features if key in droid or _dtype(features[key]) in FRAMES]


def _dtype(feature: object) -> object:
    return feature.get("dtype") if isinstance(feature, dict) else None


def is_image(info: dict[str, Any], key: str) -> bool:
    """Return whether a view is stored as images in the rows, not as a video."""
    return _dtype(info["features"].get(key)) == "image"


def video_keys(info: dict[str, Any]) -> list[str]:
    """Return the features of all views that are stored as videos."""
    return [key for key in frame_keys(info) if not is_image(info, key)]


def is_v3(info: dict[str, Any]) -> bool:
    """Return whether files hold many episodes."""
    return str(info["codebase_version"]).removeprefix("v").startswith("3")


@dataclass(frozen=True)
class Listing:
    """The list of episodes."""

    rows: dict[int, Row]
    """Episode number -> row. A row without a number has a negative one and the entry `fault`."""
    spans: dict[str, dict[int, Span]]
    """Video key -> episode number -> place; empty if each episode has files of its own."""


@lru_cache(maxsize=8)
def list_episodes(root: Path, links: Links = "inside") -> Listing:
    """Read the list of episodes. An episode with a wrong row is rejected, the others remain.

    Raises:
        DataError: The list cannot be read, or lacks a column; the message names the file.
    """
    info = read_info(root, links)
    listed: dict[int, Row] = {}
    for where, row in _v3_rows(root, info, links) if is_v3(info) else _v2_rows(root, links):
        number = row.get("episode_index") if isinstance(row, dict) else None
        if type(number) is not int or number < 0:
            fault = f"{where} has the episode_index {str(number)[:200]}; a whole number is needed"
            listed[-1 - len(listed)] = {"fault": fault}
        elif number in listed:
            listed[number] = {"fault": f"{where}: episode {number} is listed twice"}
        else:
            listed[number] = row
    keys = video_keys(info) if is_v3(info) else []
    return Listing(listed, {key: video_spans(listed, key, info.get("fps")) for key in keys})


def _v2_rows(root: Path, links: Links) -> Iterator[tuple[str, Any]]:
    path = root / "meta" / "episodes.jsonl"
    try:
        require_file(path, root, links=links, missing="list_missing")
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, ValueError, EpisodeError) as error:
        raise DataError(f"The list of episodes {path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"line {number} of {path.name}", _json(line)


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _v3_rows(root: Path, info: dict[str, Any], links: Links) -> Iterator[tuple[str, Row]]:
    folder = root / "meta" / "episodes"
    paths = [path for path in list_files(folder) if path.suffix == ".parquet"]
    if not paths:
        raise DataError(f"The list of episodes {folder} holds no .parquet file")
    needed = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    optional = ["tasks"]
    for key in video_keys(info):
        facts = [f"videos/{key}/{x}" for x in ("chunk_index", "file_index", "from_timestamp")]
        (needed if key in view_keys(info).values() else optional).extend(facts)
        optional.append(f"videos/{key}/to_timestamp")
    for path in paths:
        try:
            require_file(path, root, links=links, missing="list_missing")
            there = pq.read_schema(path).names
            lacking = sorted(set(needed) - set(there))
            if lacking:
                raise DataError(f"The list of episodes {path} has no column {lacking[0]!r}")
            columns = [*needed, *(name for name in optional if name in there)]
            rows = pq.read_table(path, columns=columns, partitioning=None).to_pylist()
        except (OSError, ValueError, pa.ArrowException, EpisodeError) as error:
            raise DataError(f"The list of episodes {path} cannot be read: {error}") from error
        yield from ((f"row {n} of {path.name}", row) for n, row in enumerate(rows))


def episode_row(root: Path, number: int, links: Links = "inside") -> Row:
    """Return the row of an episode.

    Raises:
        EpisodeError: The row is wrong.
    """
    row = list_episodes(root, links).rows.get(number, {"fault": f"episode {number} is not listed"})
    if "fault" in row:
        raise EpisodeError("list_entry", row["fault"])
    return row


def data_path(root: Path, number: int, links: Links = "inside") -> Path:
    """Return the file with an episode's rows, inside `root`.

    Raises:
        EpisodeError: The list does not say, or the path leads out of `root`.
    """
    info, row = read_info(root, links), episode_row(root, number, links)
    return inside(root, str(info["data_path"]).format(**_places(info, row, number, "data")))


def video_path(root: Path, number: int, key: str, links: Links = "inside") -> Path:
    """Return the file with an episode's frames of a view, inside `root`.

    Raises:
        EpisodeError: The list does not say, or the path leads out of `root`.
    """
    info, row = read_info(root, links), episode_row(root, number, links)
    places = _places(info, row, number, f"videos/{key}")
    return inside(root, str(info["video_path"]).format(video_key=key, **places))


def _places(info: dict[str, Any], row: Row, number: int, prefix: str) -> dict[str, int]:
    chunk, file = "chunk_index", "file_index"
    if is_v3(info):
        found = {name: whole_number(row, f"{prefix}/{name}") for name in (chunk, file)}
        return found | {"episode_chunk": found[chunk], "episode_index": number}
    there = number // info["chunks_size"]
    return {"episode_chunk": there, "episode_index": number, chunk: there, file: number}
