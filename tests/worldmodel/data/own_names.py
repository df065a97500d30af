"""Data sets whose columns have names of their own, in every way to write states and actions."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from tests.worldmodel.data.other_layouts import SHARD, SIZE, framed, write_lerobot
from worldmodel.data.writers.synthetic import draw_frames

VIEWS = {"observation.images.exterior_1_left": 1.0, "observation.images.exterior_2_left": -1.0}
FRONT, SECOND = VIEWS
CAMERA = [0.4, -0.3, 0.7, -2.0, 0.1, 0.6]


def written(states, *, rotation="euler_xyz", unit_m=1.0, unit_rad=1.0, camera=None):
    """Poses [T, W] of states [T, 7] as a data set may write them."""
    turns = Rotation.from_euler("xyz", states[:, 3:6])
    places = states[:, :3]
    if camera is not None:
        base = Rotation.from_euler("xyz", camera[3:])
        places = base.inv().apply(places - np.array(camera[:3]))
        turns = base.inv() * turns
    matrices = turns.as_matrix()
    kinds = {
        "euler_xyz": lambda: turns.as_euler("xyz") / unit_rad,
        "euler_XYZ": lambda: turns.as_euler("XYZ") / unit_rad,
        "quat_xyzw": turns.as_quat,
        "quat_wxyz": lambda: turns.as_quat(scalar_first=True),
        "rotvec": lambda: turns.as_rotvec() / unit_rad,
        "6d": lambda: np.concatenate([matrices[:, :, 0], matrices[:, :, 1]], axis=1),
        "matrix": lambda: matrices.reshape(-1, 9),
        "none": lambda: np.empty((len(states), 0)),
    }
    return np.concatenate([places / unit_m, kinds[rotation]()], axis=1)


def write_own_lerobot(root: Path, episodes, version="v3.0", *, column, names=None, **kwargs):
    """A LeRobot set with `observation.state` and `action`; `column(states)` returns both."""
    parts = [column(states) for states in episodes]

    def info(values):
        for key, value in zip(("observation.state", "action"), parts[0], strict=True):
            shape = [value.shape[1]]
            values["features"][key] = {"dtype": "float32", "shape": shape, "names": names}

    def columns(number, values):
        for key in [k for k in values if k.startswith(("observation.state", "camera_ext"))]:
            del values[key]
        for key, value in zip(("observation.state", "action"), parts[number], strict=True):
            values[key] = value.tolist()

    return write_lerobot(root, episodes, version, info=info, columns=columns, **kwargs)


def write_own_rlds(root: Path, episodes, *, values):
    """A shard with features.json; `values(states)` returns the columns of `observation`."""
    from tensorflow_datasets.core import features as f
    from tensorflow_datasets.proto import tf_example_pb2

    root.mkdir(parents=True)
    observation = {
        key: f.Tensor(shape=value.shape[1:], dtype=np.float32)
        for key, value in values(episodes[0]).items()
    }
    observation["image"] = f.Image(shape=(*SIZE, 3), dtype=np.uint8, encoding_format="jpeg")
    steps = {"observation": f.FeaturesDict(observation), "is_first": f.Scalar(dtype=np.bool_)}
    f.FeaturesDict({"steps": f.Dataset(steps)}).save_config(str(root))
    with (root / SHARD).open("wb") as file:
        for states in episodes:
            feature = tf_example_pb2.Example()
            found = feature.features.feature
            for key, value in values(states).items():
                floats = found[f"steps/observation/{key}"].float_list.value
                floats.extend(np.ravel(value).tolist())
            images = found["steps/observation/image"].bytes_list.value
            images.extend(_jpeg(frame) for frame in draw_frames(states, SIZE))
            first = [int(step == 0) for step in range(len(states))]
            found["steps/is_first"].int64_list.value.extend(first)
            file.write(framed(feature.SerializeToString()))
    return root


def _jpeg(frame) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def rewrite_info(root: Path, change):
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))
