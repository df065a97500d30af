"""Plan from two images on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from planning.apps.policies import SIMULATED_BOX_M, open_policy
from planning.energy import energy
from planning.errors import PlanError
from planning.options import PlanOptions
from planning.pictures import read_image
from planning.planner import Memory
from robot.arm import ArmSpec
from worldmodel.atomic_io import write_json


def make_plan(options: PlanOptions) -> dict[str, Any]:
    """Plan once and write the plan to `summary.json`.

    Returns:
        Actions, energies and search statistics.

    Raises:
        PlanError: an image is missing or damaged, or the state's length differs from the model's.
    """
    if not options.image or not options.goal:
        raise PlanError("Two images are needed: give image=FILE goal=FILE.")
    image, goal_image = read_image(Path(options.image)), read_image(Path(options.goal))
    policy = open_policy(options.model, options.planner, device=options.device)
    policy.connect(ArmSpec(period_s=policy.period_s), SIMULATED_BOX_M)
    seen, goal = policy.observe(image, options.state), policy.encode(goal_image)
    plan, _ = policy.planner.plan(seen, goal, Memory.start(options.seed))
    result = {
        "actions": [[round(float(x), 5) for x in action] for action in plan.actions_KA],
        "energy_now": float(energy(seen.z_1ND, goal)[0]),
        "energy_imagined": plan.energy,
        "spread_m": plan.spread_m,
        "iterations": plan.iterations,
        "step_seconds": policy.period_s,
        "model": options.model,
    }
    write_json(Path(options.out) / "summary.json", result)
    return result
