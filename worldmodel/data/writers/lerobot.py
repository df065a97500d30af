"""Write episodes as a LeRobot data set v3.0, which lerobot itself reads.

`meta/` describes the set, its episodes and tasks; `data/` holds the rows of many episodes a file,
one row group each; `videos/` one H.264 file an episode and camera. `observation.state` and `action`
are what lerobot's policies read: pose and closedness, and the commanded ones. DROID's own columns
hold the same state, joint positions and success, so this package reads the set without a map.

Shapes: T control steps, S state (7), J joints.
Source: lerobot 0.6.1, `lerobot/datasets`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from worldmodel.atomic_io import write_json
from worldmodel.data.episode import Array, Frames
from worldmodel.data.writers.lerobot_stats import Histogram, column_stats, frame_stats
from worldmodel.data.writers.lerobot_video import (
    FILES_A_CHUNK,
    VIDEOS,
    VIEWS,
    Video,
    describe,
    encode,
    video_key,
    video_path,
)
from worldmodel.errors import DataError

STATE_NAMES = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
MAX_DATA_BYTES = 100 << 20
"""Size above which rows go to the next file [bytes]."""
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
PANDAS = {
    "index_columns": ["task"],
    "column_indexes": [
        {
            "name": None,
            "field_name": None,
            "pandas_type": "unicode",
            "numpy_type": "object",
            "metadata": {"encoding": "UTF-8"},
        }
    ],
    "columns": [
        {
            "name": name,
            "field_name": name,
            "pandas_type": kind,
            "numpy_type": numpy,
            "metadata": None,
        }
        for name, kind, numpy in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ],
    "pandas_version": "2.0.0",
}
"""Says that the tasks are the index of their table."""


@dataclass(frozen=True, kw_only=True)
class LeRobotEpisode:
    """An episode with a constant frame rate."""

    states_TS: Array
    """Flange pose [m, rad] and closedness."""
    targets_TS: Array
    """Commanded pose and closedness of each step."""
    frames: Mapping[str, Frames]
    """Camera name (`left`, `right`, `wrist`) -> RGB frames [T, H, W, 3]."""
    task: str = ""
    joints_TJ: Array | None = None
    """Joint positions [rad]."""
    extrinsics: Mapping[str, Array] = field(default_factory=dict)
    """Camera name -> camera poses [T, 6] in the robot's base frame [m, rad]."""
    success: bool | None = None


class LeRobotWriter:
    """Writes the episodes of a new data set into a folder; `close` writes its description.

    Args:
        root: Empty folder.
        fps: Frame rate [Hz], a whole number as lerobot needs.
        robot: Type of the robot, for lerobot's description.
    """

    def __init__(self, root: Path, *, fps: int, robot: str = "franka") -> None:
        self.root, self.fps, self.robot = root, fps, robot
        self.features: dict[str, dict[str, Any]] = {}
        self.rows: list[dict[str, Any]] = []
        self.tasks: dict[str, int] = {}
        self.steps = 0
        self._columns: dict[str, list[NDArray[np.generic]]] = {}
        self._pixels: dict[str, tuple[Histogram, int]] = {}
        self._file = -1
        self._table: pq.ParquetWriter | None = None

    def add(
        self, episode: LeRobotEpisode, known: Mapping[str, Video] | None = None
    ) -> dict[str, Video]:
        """Write an episode; return what its description needs of its videos.

        Args:
            episode: Episode, whose `frames` lack the cameras that are `known`.
            known: Camera name -> facts of a video that is in its place already.

        Raises:
            DataError: It has other columns, cameras or frame sizes than the first one.
        """
        number = len(self.rows)
        task = self.tasks.setdefault(episode.task, len(self.tasks))
        columns = self._columns_of(episode, number, task)
        videos = dict(known or {})
        sizes = {camera: (video.height, video.width) for camera, video in videos.items()}
        sizes |= {
            camera: (frames.shape[1], frames.shape[2]) for camera, frames in episode.frames.items()
        }
        self._require_same(columns, sizes)
        stats = {name: column_stats(_matrix(values)) for name, values in columns.items()}
        chunk, place = divmod(number, FILES_A_CHUNK)
        row: dict[str, Any] = {"episode_index": number, "tasks": [episode.task]}
        row |= {"length": len(episode.states_TS), **self._write_rows(columns)}
        row |= {"dataset_from_index": self.steps}
        row |= {"dataset_to_index": self.steps + len(episode.states_TS)}
        for camera, frames in episode.frames.items():
            videos[camera] = encode(video_path(self.root, camera, number), frames, self.fps)
        for camera, video in videos.items():
            key = video_key(camera)
            row |= {f"videos/{key}/chunk_index": chunk, f"videos/{key}/file_index": place}
            row[f"videos/{key}/from_timestamp"] = 0.0
            row[f"videos/{key}/to_timestamp"] = video.length / self.fps
            stats[key] = frame_stats(video.counts, video.sampled)
            before, frames_before = self._pixels.get(key, (np.zeros_like(video.counts), 0))
            self._pixels[key] = (before + video.counts, frames_before + video.sampled)
        for key, values in stats.items():
            row |= {f"stats/{key}/{name}": value for name, value in values.items()}
        row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        self.rows.append(row)
        self.steps += len(episode.states_TS)
        return videos

    def close(self) -> None:
        """Write the description, the lists of episodes and tasks, and the statistics.

        Raises:
            DataError: There is no episode.
        """
        if self._table is None:
            raise DataError("A LeRobot data set needs at least one episode")
        self._table.close()
        meta = self.root / "meta"
        (meta / "episodes" / "chunk-000").mkdir(parents=True)
        pq.write_table(
            pa.Table.from_pylist(self.rows), meta / "episodes" / "chunk-000" / "file-000.parquet"
        )
        tasks = pa.table({"task_index": list(self.tasks.values()), "task": list(self.tasks)})
        described = {"pandas": json.dumps(PANDAS)}
        pq.write_table(tasks.replace_schema_metadata(described), meta / "tasks.parquet")
        stats = {
            name: column_stats(np.concatenate([_matrix(part) for part in parts]))
            for name, parts in self._columns.items()
        }
        stats |= {key: frame_stats(counts, n) for key, (counts, n) in self._pixels.items()}
        write_json(meta / "stats.json", stats, indent=4)
        write_json(meta / "info.json", self._info(), indent=4)

    def _info(self) -> dict[str, object]:
        return {
            "codebase_version": "v3.0",
            "fps": self.fps,
            "features": self.features,
            "total_episodes": len(self.rows),
            "total_frames": self.steps,
            "total_tasks": len(self.tasks),
            "chunks_size": FILES_A_CHUNK,
            "data_files_size_in_mb": MAX_DATA_BYTES >> 20,
            "video_files_size_in_mb": 200,
            "data_path": DATA,
            "video_path": VIDEOS,
            "robot_type": self.robot,
            "splits": {"train": f"0:{len(self.rows)}"},
        }

    def _columns_of(
        self, episode: LeRobotEpisode, number: int, task: int
    ) -> dict[str, NDArray[np.generic]]:
        """Return the columns of an episode in their final types."""
        steps = len(episode.states_TS)
        states_TS = episode.states_TS.astype(np.float32)
        found: dict[str, NDArray[np.generic]] = {
            "observation.state": states_TS,
            "observation.state.cartesian_position": states_TS[:, :6],
            "observation.state.gripper_position": states_TS[:, 6],
            "action": episode.targets_TS.astype(np.float32),
        }
        if episode.joints_TJ is not None:
            found["observation.state.joint_position"] = episode.joints_TJ.astype(np.float32)
        for camera, poses_T6 in episode.extrinsics.items():
            found[f"camera_extrinsics.{VIEWS[camera]}"] = poses_T6.astype(np.float32)
        if episode.success is not None:
            found["is_episode_successful"] = np.full(steps, episode.success)
        counts = np.arange(steps)
        return found | {
            "timestamp": (counts / self.fps).astype(np.float32),
            "frame_index": counts,
            "episode_index": np.full(steps, number),
            "index": self.steps + counts,
            "task_index": np.full(steps, task),
        }

    def _require_same(
        self, columns: Mapping[str, NDArray[np.generic]], sizes: Mapping[str, tuple[int, int]]
    ) -> None:
        features: dict[str, dict[str, Any]] = {
            video_key(camera): describe(*size, self.fps) for camera, size in sizes.items()
        }
        for name, values in columns.items():
            shape = list(values.shape[1:]) or [1]
            names = STATE_NAMES if name in ("observation.state", "action") else None
            features[name] = {"dtype": str(values.dtype), "shape": shape, "names": names}
        self.features = self.features or features
        if features != self.features:
            odd = sorted(
                name
                for name in features.keys() | self.features.keys()
                if features.get(name) != self.features.get(name)
            )
            raise DataError(
                f"Episode {len(self.rows)} differs from the first one in {', '.join(odd)}: a "
                "LeRobot data set has the same columns, cameras and frame sizes in all episodes"
            )

    def _write_rows(self, columns: Mapping[str, NDArray[np.generic]]) -> dict[str, int]:
        """Append the rows of an episode as a row group; return its file."""
        for name, values in columns.items():
            self._columns.setdefault(name, []).append(values)
        table = pa.table({name: _arrow(values) for name, values in columns.items()})
        path = self._data_path()
        if self._table is None or path.stat().st_size > MAX_DATA_BYTES:
            if self._table is not None:
                self._table.close()
            self._file += 1
            path = self._data_path()
            path.parent.mkdir(parents=True, exist_ok=True)
            self._table = pq.ParquetWriter(path, table.schema)
        self._table.write_table(table)
        chunk, place = divmod(self._file, FILES_A_CHUNK)
        return {"data/chunk_index": chunk, "data/file_index": place}

    def _data_path(self) -> Path:
        chunk, place = divmod(max(self._file, 0), FILES_A_CHUNK)
        return self.root / DATA.format(chunk_index=chunk, file_index=place)


def _matrix(values: NDArray[np.generic]) -> NDArray[np.generic]:
    return values.reshape(len(values), -1)


def _arrow(values: NDArray[np.generic]) -> pa.Array:
    """Return a column; vectors are lists of a fixed size."""
    if values.ndim == 1:
        return pa.array(values)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def write_lerobot(root: Path, episodes: Sequence[LeRobotEpisode], *, fps: int) -> None:
    """Write a whole data set; see `LeRobotWriter`."""
    writer = LeRobotWriter(root, fps=fps)
    for episode in episodes:
        writer.add(episode)
    writer.close()
