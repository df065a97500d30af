"""Error of decoded positions by shape, and the direction in which it varies most.

    python benchmarks/aim.py         # measure, and write the block in docs/planning.md
    python benchmarks/aim.py page    # only the page

The scenes have tuning seeds, which no evaluation uses.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from page_blocks import fill_blocks, markdown_table

from envs.arm_env import ArmEnv
from planning.apps.policies import open_policy
from planning.planner_options import GoalPlannerOptions
from worldmodel.checkpoints.loading import load_world_model

HERE = Path(__file__).resolve().parent
OUT, PAGE = HERE / "results" / "aim.json", HERE.parent / "docs" / "planning.md"
MODEL = "one_goal_labelled"
SCENES, FIRST_SEED = 60, 5_000_000
TASKS = {
    "cube": "pick_place",
    "box": "pick_place",
    "long_box": "push_pose",
    "cup": "pick_place",
    "cylinder": "pick_place",
}
"""Tasks whose start scenes show a shape alone."""


def measure() -> dict[str, Any]:
    """Decode the object of every scene."""
    world = load_world_model(MODEL, "cpu", "auto")
    policy = open_policy(world, GoalPlannerOptions())
    rows = {}
    for shape, task in TASKS.items():
        env = ArmEnv(task, image_size=max(policy.image_size), objects=[shape])
        policy.connect(env.arm_spec, env.box_m)
        found = []
        for seed in range(FIRST_SEED, FIRST_SEED + SCENES):
            observation, _ = env.reset(seed=seed)
            pose = world.locate_at_home(policy.look(observation).z_1ND)
            assert pose is not None, "the model has an object head"
            place_3 = pose.position_m[0, int(pose.presence[0].argmax())].double().numpy()
            found.append([place_3, env.object_m])
        env.close()
        decoded_S3, true_S3 = np.array(found).transpose(1, 0, 2)
        errors_S2 = (decoded_S3 - true_S3)[:, :2]
        rows[shape] = {
            "mean_error_m": errors_S2.mean(axis=0).tolist(),
            "quartiles_m": np.percentile(errors_S2, (25, 75), axis=0).T.tolist(),
            **principal_axis(errors_S2),
            "decoded_z_m": float(np.median(decoded_S3[:, 2])),
            "true_z_m": float(np.median(true_S3[:, 2])),
        }
    return {"model": MODEL, "scenes": SCENES, "first_seed": FIRST_SEED, "shapes": rows}


def principal_axis(errors_S2: np.ndarray) -> dict[str, float]:
    """Return the direction in which errors vary most, and the deviations along and across it."""
    variances, axes = np.linalg.eigh(np.cov(errors_S2.T))
    x, y = axes[:, 1]
    return {
        "axis_deg": float(np.degrees(np.arctan2(y, x)) % 180),
        "along_m": float(variances[1] ** 0.5),
        "across_m": float(variances[0] ** 0.5),
    }


def table(found: dict[str, Any]) -> str:
    """Format the table of a measurement."""
    rows = []
    for shape, row in found["shapes"].items():
        errors = [
            f"{100 * middle:.1f} ({100 * low:.1f} to {100 * high:.1f}) cm"
            for middle, (low, high) in zip(row["mean_error_m"], row["quartiles_m"], strict=True)
        ]
        spread = f"{row['axis_deg']:.0f} deg: {100 * row['along_m']:.1f}, "
        spread += f"{100 * row['across_m']:.1f} cm"
        heights = [f"{100 * row[name]:.1f} cm" for name in ("decoded_z_m", "true_z_m")]
        rows.append([shape, *errors, spread, *heights])
    head = ["shape", "error of x: mean (quartiles)", "error of y"]
    head += ["largest deviation, and across", "decoded z", "true z"]
    return f"{markdown_table(head, rows)}\n\n{found['scenes']} scenes per row, `{found['model']}`."


def main() -> None:
    """Measure, and write the results and the page."""
    if "page" not in sys.argv:
        torch.set_num_threads(1)
        OUT.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    fill_blocks(PAGE, {"aim": table(json.loads(OUT.read_text(encoding="utf-8")))})


if __name__ == "__main__":
    main()
