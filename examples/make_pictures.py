"""Render the two images in `examples/pictures`: the current scene and the goal.

python examples/make_pictures.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import envs
from envs.expert import flange_position
from envs.mujoco_arm import rest_joints

PICTURES = Path(__file__).parent / "pictures"
START_M = np.array([0.50, 0.00, 0.1766])
"""Fingertips in the first image [m]: it puts the flange at the default state of `worldmodel
plan`."""
GOAL_M = np.array([0.55, 0.06, 0.14])
"""Fingertips in the goal image [m]."""


def main() -> None:
    """Place the arm twice and render the left camera."""
    env = envs.make("reach", image_size=256)
    env.reset(seed=34)
    for name, place in (("now", START_M), ("goal", GOAL_M)):
        env.arm.reset(rest_joints(env.arm.ik, flange_position(place)))
        Image.fromarray(env.render()).save(PICTURES / f"{name}.png", optimize=True)
    env.close()


if __name__ == "__main__":
    main()
