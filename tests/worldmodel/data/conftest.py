"""Writers of the other layouts: the same episodes as RLDS and as LeRobot v2.1 and v3.0."""

import io
import json
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from worldmodel.data.writers.synthetic import RATE_HZ, draw_frames, random_states
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


def write_rlds(root: Path, episodes: list[np.ndarray]) -> Path:
    """One shard of serialised tf.train.Example in TFRecord framing (checksums zero)."""
    from tensorflow_datasets.proto import tf_example_pb2

    root.mkdir(parents=True)
    droid_features().save_config(str(root))
    with (root / "droid-train.tfrecord-00000-of-00001").open("wb") as file:
        for number, states in enumerate(episodes):
            example = tf_example_pb2.Example()
            feature = example.features.feature
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
            for key, value in floats.items():
                feature[key].float_list.value.extend(np.ravel(value).tolist())
            for i, side in enumerate(SIDES.values()):
                frames = [_jpeg(f) for f in draw_frames(states, SIZE, side=side)]
                key = f"steps/observation/exterior_image_{i + 1}_left"
                feature[key].bytes_list.value.extend(frames)
            path = f"/nfs/LAB/success/{number}/trajectory.h5".encode()
            feature["episode_metadata/file_path"].bytes_list.value.append(path)
            for key in ("recording_folderpath", "building", "date"):
                feature[f"episode_metadata/{key}"].bytes_list.value.append(b"")
            first = [int(step == 0) for step in range(len(states))]
            feature["steps/is_first"].int64_list.value.extend(first)
            task = [b"follow the square"] * len(states)
            feature["steps/language_instruction"].bytes_list.value.extend(task)
            data = example.SerializeToString()
            file.write(struct.pack("<QI", len(data), 0) + data + struct.pack("<I", 0))
    return root


def _table(number: int, states: np.ndarray) -> pa.Table:
    steps = len(states)
    return pa.table(
        {
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
    )


AV1 = {"preset": "10", "crf": "20", "g": "2", "svtav1-params": "lp=1:pred-struct=1"}
"""One thread and no reordered frames: with several, the muxer has refused the encoder's packets."""


def write_lerobot(root: Path, episodes: list[np.ndarray], version: str) -> Path:
    """LeRobot's folders; in v3.0 all episodes share one parquet and one video a camera."""
    keys = {f"observation.images.{view}": side for view, side in SIDES.items()}
    v3 = version == "v3.0"
    info = {
        "codebase_version": version,
        "fps": 15,
        "chunks_size": 1000,
        "features": {key: {"dtype": "video"} for key in keys},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        if v3
        else "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
        if v3
        else "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))
    tables = [_table(number, states) for number, states in enumerate(episodes)]
    rows = [
        {"episode_index": i, "length": len(s), "tasks": ["follow"]} for i, s in enumerate(episodes)
    ]

    def video(path: Path, chosen, side) -> None:
        frames = np.concatenate([draw_frames(s, SIZE, side=side) for s in chosen])
        write_video(root / path, frames, header_fps=15, codec="libsvtav1", options=AV1)

    def parquet(path: Path, table: pa.Table) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, root / path)

    if v3:
        starts = np.concatenate([[0], np.cumsum([len(s) for s in episodes])])
        for row, a, b in zip(rows, starts, starts[1:], strict=False):
            row |= {"data/chunk_index": 0, "data/file_index": 0}
            for key in keys:
                row |= {
                    f"videos/{key}/chunk_index": 0,
                    f"videos/{key}/file_index": 0,
                    f"videos/{key}/from_timestamp": a / RATE_HZ,
                    f"videos/{key}/to_timestamp": b / RATE_HZ,
                }
        parquet(Path("data/chunk-000/file-000.parquet"), pa.concat_tables(tables))
        parquet(Path("meta/episodes/chunk-000/file-000.parquet"), pa.Table.from_pylist(rows))
        for key, side in keys.items():
            video(Path(f"videos/{key}/chunk-000/file-000.mp4"), episodes, side)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (root / "meta" / "episodes.jsonl").write_text(text)
        for number, (table, states) in enumerate(zip(tables, episodes, strict=True)):
            parquet(Path(f"data/chunk-000/episode_{number:06d}.parquet"), table)
            for key, side in keys.items():
                path = Path(f"videos/chunk-000/{key}/episode_{number:06d}.mp4")
                video(path, [states], side)
    return root


@pytest.fixture(scope="session")
def layouts(tmp_path_factory):
    """The same two episodes in all four layouts: name -> root; and their states."""
    from worldmodel.data.writers.synthetic import draw_episode

    root = tmp_path_factory.mktemp("layouts")
    episodes = [random_states(steps, seed) for seed, steps in enumerate((64, 70))]
    roots = {name: root / name for name in ("droid", "rlds", "v2.1", "v3.0")}
    for number, states in enumerate(episodes):
        draw_episode(roots["droid"], f"e{number}", states, size=SIZE, cameras=("left", "right"))
    write_rlds(roots["rlds"], episodes)
    for version in ("v2.1", "v3.0"):
        write_lerobot(roots[version], episodes, version)
    return roots, episodes
