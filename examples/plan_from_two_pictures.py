"""Plan an action from two images: the current scene and the goal.

    python examples/plan_from_two_pictures.py [NOW.png GOAL.png]

The images may have any size. The default pair was rendered by examples/make_pictures.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from planning.policy import Policy
from worldmodel import load_world_model

PICTURES = Path(__file__).parent / "pictures"
STATE = [0.5, 0.0, 0.28, 3.1416, 0.0, -0.7854, 0.0]
"""State in the first image: flange x y z [m], extrinsic xyz Euler angles [rad], closedness."""


def main(now: str = "", goal: str = "") -> np.ndarray:
    """Plan, print and return the first action [7]."""
    model = load_world_model("default")
    policy = Policy(model)  # owns preprocessing, search and limits
    seen = np.asarray(Image.open(now or PICTURES / "now.png").convert("RGB"))
    wanted = np.asarray(Image.open(goal or PICTURES / "goal.png").convert("RGB"))

    # The plan's energy is the distance between the predicted tokens and the goal's tokens.
    plan, _ = policy.plan({"image": seen, "state": np.array(STATE)}, policy.encode(wanted))
    action = plan.actions_KA[0].numpy()
    x_cm, y_cm, z_cm = 100 * action[:3]
    print(f"move by x {x_cm:+.1f}, y {y_cm:+.1f}, z {z_cm:+.1f} cm")
    print(f"energy after the move: {plan.energy:.4f}")
    return action


if __name__ == "__main__":
    main(*sys.argv[1:3])
