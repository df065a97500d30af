"""One plan from two pictures on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from planning.apps.policies import open_policy
from planning.energy import energy
from planning.errors import PlanError
from planning.goals import read_image
from planning.options import PlanOptions


def make_plan(options: PlanOptions) -> dict[str, Any]:
    """Plan once and write the plan to `summary.json`.

    Returns:
        Actions, energies, and how the search ended.

    Raises:
        PlanError: a picture is missing or damaged, or the state has another length than the
            model's.
    """
    if not options.image or not options.goal:
        raise PlanError("Two pictures are needed: give image=FILE goal=FILE.")
    image, goal_image = read_image(Path(options.image)), read_image(Path(options.goal))
    if len(options.state) != 7:
        raise PlanError(f"state has {len(options.state)} numbers; wanted 7: x y z, Euler, gripper")
    policy = open_policy(options.model, options.planner, device=options.device)
    now, goal = policy.encode(image), policy.encode(goal_image)
    state = torch.tensor([options.state], device=now.device)
    plan = policy.planner.plan(now, state, goal, torch.Generator().manual_seed(options.seed))
    result = {
        "actions": [[round(float(x), 5) for x in action] for action in plan.actions_KA],
        "energy_now": float(energy(now, goal)[0]),
        "energy_imagined": plan.energy,
        "spread_m": plan.spread_m,
        "iterations": plan.iterations,
        "step_seconds": policy.model.action_spec.period_s,
        "model": options.model,
    }
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.json").write_text(json.dumps(result, indent=2), encoding="utf-8")
    return result
