"""Scenes whose objects the robot located itself, by squeezing each one and looking afterwards.

The fingers close on an object, open, turn by a quarter and close again: now its centre is between
the fingertips in both directions. Then they let go, the arm is put back at a start pose, and the
picture that it sees shows objects whose places its own joints have told. No pose of the simulator
gets into a label. The simulator does say roughly where to squeeze (`AIM_M`), as a person would who
points at an object, and which grip fits its shape.

    python benchmarks/squeezed_scenes.py [OUT]       # error of such labels, by shape
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from envs.arm_env import ArmEnv
from envs.expert import WayPoint, flange_position, run_expert
from envs.layout import ARM_HIGH_M, ARM_LOW_M, Clutter
from envs.mujoco_arm import rest_joints
from envs.objects import SceneObject
from envs.shapes import nearest_grip_yaw
from worldmodel.atomic_io import write_json
from worldmodel.data.flat_arrays import MAX_OBJECTS
from worldmodel.data.hindsight import HELD_CLOSEDNESS, REST_HEIGHT_M, fingertips

Array = NDArray[np.float64]
RESULT = Path(__file__).resolve().parent / "results" / "squeezed_scenes.json"
AIM_M = 0.007
"""Largest error of the place that is pointed at, along x and y [m]."""
ABOVE_M = 0.12
"""Height of the fingertips on the way between objects [m]."""
GRIP_M = {"cup": 0.035}
"""Height of the grip by shape [m]; other shapes are gripped at `LOW_M`."""
LOW_M = 0.02
SAME = 0.04
"""Largest difference of the closedness of two squeezes of an object as wide as long."""
REACHED_M = 0.01
"""Largest distance of the fingertips from the height of the grip [m]."""
TEST_SEED, TEST_SCENES = 6_000_000, 200


@dataclass(frozen=True)
class Scenes:
    """Start scenes of a task."""

    task: str
    objects: tuple[str, ...]
    seed: int
    number: int
    clutter: Clutter | None = None


class Squeezer:
    """Locates the objects of an environment's scenes with the fingers.

    Args:
        env: Environment, which each scene resets.
    """

    def __init__(self, env: ArmEnv) -> None:
        self.env = env

    def label(self, seed: int) -> NDArray[np.float32] | None:
        """Squeeze all objects of a scene, and return their poses [L, 4] (x, y, z [m], yaw [rad]).

        The yaw of an object that is as wide as long is NaN, as in `SceneObject.label`.

        Returns:
            The poses; None if a squeeze told nothing.
        """
        self.env.reset(seed=seed)
        rng = np.random.default_rng([seed, 1])
        poses_L4 = np.full((MAX_OBJECTS, 4), np.nan, np.float32)
        for row, item in enumerate(self.env.items[:MAX_OBJECTS]):
            aim_m = item.position_m[:2] + rng.uniform(-AIM_M, AIM_M, 2)
            found = self._squeeze_twice(item, aim_m)
            if found is None:
                return None
            poses_L4[row] = found
        arm = self.env.arm
        arm.reset(rest_joints(arm.ik, flange_position(rng.uniform(ARM_LOW_M, ARM_HIGH_M))))
        return poses_L4

    def _squeeze_twice(self, item: SceneObject, aim_m: Array) -> Array | None:
        """Return where an object is [4] after one squeeze or, if it may be turned, two."""
        arm, period = self.env.arm, item.shape.yaw_period_rad
        height = GRIP_M.get(item.shape_name, LOW_M)
        yaw = nearest_grip_yaw(item.yaw_rad, period, arm.yaw_rad)
        run_expert(arm, [WayPoint((*aim_m, ABOVE_M), -1.0, yaw_rad=yaw)], 15)
        found = self._squeeze(aim_m, height, yaw)
        if found is None:
            return None
        place_m, yaw_rad, closed = found
        if not item.shape.has_yaw:
            turned = yaw + (np.pi / 2 if yaw < 0 else -np.pi / 2)
            run_expert(arm, [WayPoint((*place_m, height), yaw_rad=turned)], 15)
            again = self._squeeze(place_m, height, turned)
            if again is None or abs(again[2] - closed) > SAME:
                return None
            place_m, yaw_rad = again[0], np.nan
        run_expert(arm, [WayPoint((*place_m, ABOVE_M))], 15)
        return np.array([*place_m, REST_HEIGHT_M, yaw_rad])

    def _squeeze(
        self, place_m: Array, height_m: float, yaw: float
    ) -> tuple[Array, float, float] | None:
        """Close at a place and open; return place, yaw and closedness of a grip that held."""
        arm, x, y = self.env.arm, float(place_m[0]), float(place_m[1])
        down = WayPoint((x, y, height_m), yaw_rad=yaw)
        run_expert(arm, [down, WayPoint((x, y, height_m), 1.0)], 15)
        state_S = arm.state().state
        tip_13, yaw_1 = fingertips(state_S[None])
        low, high = HELD_CLOSEDNESS
        if not low < state_S[6] < high or abs(tip_13[0, 2] - height_m) > REACHED_M:
            return None
        run_expert(arm, [WayPoint((x, y, height_m), -1.0)], 15)
        return tip_13[0, :2], float(yaw_1[0]), float(state_S[6])


def record(scenes: Scenes, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], Array]:
    """Return the images [S, H, W, 3], poses [S, L, 4] and true poses of scenes, all that succeed.

    The true poses tell how good the labels are, and nothing else.
    """
    env = ArmEnv(scenes.task, image_size=size, objects=scenes.objects, clutter=scenes.clutter)
    squeezer, images, poses, truth = Squeezer(env), [], [], []
    for i in tqdm(range(scenes.number), desc=scenes.task, unit="scene"):
        found_L4 = squeezer.label(scenes.seed + i)
        if found_L4 is None:
            continue
        images.append(env.render())
        poses.append(found_L4)
        true_L4 = np.full_like(found_L4, np.nan)
        true_L4[: len(env.items)] = [item.label for item in env.items[:MAX_OBJECTS]]
        truth.append(true_L4)
    env.close()
    return np.stack(images), np.stack(poses), np.stack(truth).astype(np.float64)


def main() -> None:
    """Measure the labels of each shape."""
    rows = {}
    for shape in ("cube", "box", "cup", "long_box", "T"):
        scenes = Scenes("pick_place", (shape,), TEST_SEED, TEST_SCENES)
        _, poses_SL4, true_SL4 = record(scenes, 64)
        error_S = np.linalg.norm(poses_SL4[:, 0, :2] - true_SL4[:, 0, :2], axis=-1)
        median, ninety = np.quantile(error_S, (0.5, 0.9))
        rows[shape] = {"labelled": len(error_S), "median_m": median, "p90_m": ninety}
        print(f"{shape:9s} {len(error_S)}/{TEST_SCENES} {100 * median:.2f} {100 * ninety:.2f} cm")
    write_json(Path((sys.argv[1:] or [RESULT])[0]), {"scenes": TEST_SCENES, "shapes": rows})


if __name__ == "__main__":
    main()
