"""Write episodes as RLDS and as LeRobot v2.1 and v3.0; hooks may spoil what is written."""

import io
import json
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from worldmodel.data.readers.crc32c import masked_crc32c
from worldmodel.data.writers.synthetic import RATE_HZ, draw_frames
from worldmodel.data.writers.video import write_video

SIZE = (48, 64)
SIDES = {"exterior_1_left": 1.0, "exterior_2_left": -1.0}


def _jpeg(frame) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def droid_features():
    """DROID's features, version 1.0.1, as tensorflow-datasets describes them."""
    from tensorflow_datasets.core import features as f

    def vector(size):
        return f.Tensor(shape=(size,), dtype=np.float64)

    def image():
        return f.Image(shape=(*SIZE, 3), dtype=np.uint8, encoding_format="jpeg")

    texts = ("file_path", "recording_folderpath", "building", "date")
    poses = ("exterior_cam_1", "exterior_cam_2", "wrist_cam")
    observation = {
        "cartesian_position": vector(6),
        "gripper_position": vector(1),
        "joint_position": vector(7),
        "exterior_image_1_left": image(),
        "exterior_image_2_left": image(),
    }
    steps = {
        "observation": f.FeaturesDict(observation),
        "action": vector(7),
        "is_first": f.Scalar(dtype=np.bool_),
        "reward": f.Scalar(dtype=np.float32),
        "language_instruction": f.Text(),
    }
    metadata = {key: f.Text() for key in texts}
    metadata |= {f"extrinsics_{key}": vector(6) for key in poses}
    return f.FeaturesDict({"episode_metadata": f.FeaturesDict(metadata), "steps": f.Dataset(steps)})


def framed(data: bytes, *, checksums: bool = True) -> bytes:
    """A record of a TFRecord file."""
    header = struct.pack("<Q", len(data))
    sums = [masked_crc32c(part) if checksums else 0 for part in (header, data)]
    return header + struct.pack("<I", sums[0]) + data + struct.pack("<I", sums[1])


SHARD = "droid-train.tfrecord-00000-of-00001"


def write_rlds(
    root: Path, episodes: list[np.ndarray], change=None, *, checksums: bool = True
) -> Path:
    """One shard of serialised tf.train.Example; `change(number, floats, images)` may spoil it."""
    from tensorflow_datasets.proto import tf_example_pb2

    root.mkdir(parents=True)
    droid_features().save_config(str(root))
    with (root / SHARD).open("wb") as file:
        for number, states in enumerate(episodes):
            example = tf_example_pb2.Example()
            feature = example.features.feature
            images = {
                f"steps/observation/exterior_image_{i + 1}_left": [
                    _jpeg(f) for f in draw_frames(states, SIZE, side=side)
                ]
                for i, side in enumerate(SIDES.values())
            }
            floats = {
                "steps/observation/cartesian_position": states[:, :6],
                "steps/observation/gripper_position": states[:, 6],
                "steps/observation/joint_position": np.zeros((len(states), 7)),
                "steps/action": np.zeros((len(states), 7)),
                "steps/reward": np.zeros(len(states)),
                "episode_metadata/extrinsics_exterior_cam_1": [0.3, 0.6, 0.5, -2, 0, -2],
                "episode_metadata/extrinsics_exterior_cam_2": [0.3, -0.6, 0.5, -2, 0, -2],
                "episode_metadata/extrinsics_wrist_cam": [0.0] * 6,
            }
            if change:
                change(number, floats, images)
            for key, value in floats.items():
                feature[key].float_list.value.extend(np.ravel(value).tolist())
            for key, frames in images.items():
                feature[key].bytes_list.value.extend(frames)
            path = f"/nfs/LAB/success/{number}/trajectory.h5".encode()
            feature["episode_metadata/file_path"].bytes_list.value.append(path)
            for key in ("recording_folderpath", "building", "date"):
                feature[f"episode_metadata/{key}"].bytes_list.value.append(b"")
            first = [int(step == 0) for step in range(len(states))]
            feature["steps/is_first"].int64_list.value.extend(first)
            task = [b"follow the square"] * len(states)
            feature["steps/language_instruction"].bytes_list.value.extend(task)
            file.write(framed(example.SerializeToString(), checksums=checksums))
    return root


def _columns(number: int, states: np.ndarray) -> dict[str, list]:
    steps = len(states)
    return {
        "observation.state.cartesian_position": states[:, :6].tolist(),
        "observation.state.gripper_position": states[:, 6:].tolist(),
        "observation.state.joint_position": np.zeros((steps, 7)).tolist(),
        "camera_extrinsics.exterior_1_left": [[0.3, 0.6, 0.5, 0, 0, 0]] * steps,
        "camera_extrinsics.exterior_2_left": [[0.3, -0.6, 0.5, 0, 0, 0]] * steps,
        "is_episode_successful": [True] * steps,
        "timestamp": (np.arange(steps) / RATE_HZ).tolist(),
        "episode_index": [number] * steps,
        "frame_index": list(range(steps)),
    }


AV1 = {"preset": "10", "crf": "20", "g": "2", "svtav1-params": "lp=1:pred-struct=1"}
"""One thread and no reordered frames: with several, the muxer has refused the encoder's packets."""


def _info(keys, *, v3: bool, image_views: bool) -> dict:
    video = {"dtype": "video"}
    image = {"dtype": "image", "shape": [*SIZE, 3]}
    one = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    many = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    one_video = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    many_video = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    return {
        "codebase_version": "v3.0" if v3 else "v2.1",
        "fps": 15,
        "chunks_size": 1000,
        "features": dict.fromkeys(keys, image if image_views else video),
        "data_path": many if v3 else one,
        "video_path": None if image_views else many_video if v3 else one_video,
    }


def _rows(episodes: list[np.ndarray], keys, *, v3: bool) -> list[dict]:
    lengths = [len(states) for states in episodes]
    rows = [{"episode_index": i, "length": n, "tasks": ["follow"]} for i, n in enumerate(lengths)]
    starts = np.concatenate([[0], np.cumsum(lengths)]) / RATE_HZ
    for row, start, end in zip(rows, starts, starts[1:], strict=False) if v3 else ():
        row |= {"data/chunk_index": 0, "data/file_index": 0}
        for key in keys:
            facts = {"chunk_index": 0, "file_index": 0, "from_timestamp": start}
            facts["to_timestamp"] = end
            row |= {f"videos/{key}/{name}": value for name, value in facts.items()}
    return rows


def _write_video(path: Path, episodes: list[np.ndarray], side: float) -> None:
    frames = np.concatenate([draw_frames(states, SIZE, side=side) for states in episodes])
    write_video(path, frames, header_fps=15, codec="libsvtav1", options=AV1)


def _write_table(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def _unchanged(*_) -> None:
    pass


def write_lerobot(
    root: Path,
    episodes: list[np.ndarray],
    version: str,
    *,
    info=_unchanged,
    rows=_unchanged,
    columns=_unchanged,
    image_views: bool = False,
) -> Path:
    """LeRobot's folders; in v3.0 all episodes share one parquet and one video a camera.

    `info(values)`, `rows(values)` and `columns(number, values)` may spoil what is written;
    `image_views` stores the frames as images in the rows.
    """
    keys = {f"observation.images.{view}": side for view, side in SIDES.items()}
    videos = {} if image_views else keys
    v3 = version == "v3.0"
    described, listed = _info(keys, v3=v3, image_views=image_views), _rows(episodes, videos, v3=v3)
    info(described)
    rows(listed)
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(described))
    tables = []
    for number, states in enumerate(episodes):
        values = _columns(number, states)
        for key, side in keys.items() if image_views else ():
            frames = draw_frames(states, SIZE, side=side)
            values[key] = [{"bytes": _jpeg(frame), "path": None} for frame in frames]
        columns(number, values)
        tables.append(pa.table(values))
    if v3:
        whole = pa.concat_tables(tables, promote_options="permissive")
        _write_table(root / "data/chunk-000/file-000.parquet", whole)
        _write_table(
            root / "meta/episodes/chunk-000/file-000.parquet", pa.Table.from_pylist(listed)
        )
        for key, side in videos.items():
            _write_video(root / f"videos/{key}/chunk-000/file-000.mp4", episodes, side)
        return root
    text = "".join(json.dumps(row) + "\n" for row in listed)
    (root / "meta" / "episodes.jsonl").write_text(text)
    for number, (table, states) in enumerate(zip(tables, episodes, strict=True)):
        _write_table(root / f"data/chunk-000/episode_{number:06d}.parquet", table)
        for key, side in videos.items():
            path = root / f"videos/chunk-000/{key}/episode_{number:06d}.mp4"
            _write_video(path, [states], side)
    return root
