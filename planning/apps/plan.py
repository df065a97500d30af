"""Plan from two images on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from planning.apps.own_encoder import open_world
from planning.apps.policies import make_skill_agent, open_policy, require_one_view
from planning.apps.workspace import SIMULATED_BOX_M
from planning.energy import energy
from planning.errors import PlanError
from planning.goals import GoalPicture
from planning.options import PlanOptions
from planning.pictures import read_image
from planning.planner import Memory
from planning.policy import Policy
from planning.protocols import Image
from planning.skills.agent import SkillAgent
from robot.arm import ArmSpec
from worldmodel.atomic_io import write_json

SKILL_BUDGET = 60
"""Number of actions that a planned skill and the return home may take."""


def make_plan(options: PlanOptions) -> dict[str, Any]:
    """Plan once and write the plan to `summary.json`.

    Returns:
        Actions, energies and search statistics.

    Raises:
        PlanError: An image is missing or damaged, or the state's length differs from the model's.
    """
    if not options.image or not options.goal:
        raise PlanError("Two images are needed: give image=FILE goal=FILE.")
    image, goal_image = read_image(Path(options.image)), read_image(Path(options.goal))
    world = open_world(options.model, options.device, options.precision)
    require_one_view(world, "plan takes one image of the scene")
    policy = open_policy(world, options.planner)
    spec = ArmSpec(period_s=policy.period_s)
    policy.connect(spec, SIMULATED_BOX_M)
    planner = options.planner.resolved(one_image=False).for_model(options.model)
    if planner.method == "skills":
        search = planner.skill_search
        agent = make_skill_agent("planner", policy, world, search, spec, options.precision)
        result = plan_skills(agent, options, image, goal_image)
    else:
        result = plan_actions(policy, options, image, goal_image)
    result |= {"step_seconds": policy.period_s, "model": options.model}
    write_json(Path(options.out) / "summary.json", result)
    return result


def plan_actions(
    policy: Policy, options: PlanOptions, image: Image, goal_image: Image
) -> dict[str, Any]:
    """Plan single actions; return them with energies and search statistics."""
    seen, goal = policy.observe(image, options.state), policy.encode(goal_image)
    plan, _ = policy.planner.plan(seen, goal, Memory.start(options.seed))
    return {
        "actions": [[round(float(x), 5) for x in action] for action in plan.actions_KA],
        "energy_now": float(energy(seen.z_1ND, goal)[0]),
        "energy_imagined": plan.energy,
        "spread_m": plan.spread_m,
        "iterations": plan.iterations,
    }


def plan_skills(
    agent: SkillAgent, options: PlanOptions, image: Image, goal_image: Image
) -> dict[str, Any]:
    """Plan one skill from the start pose; return its actions, name, parameters and energies.

    `why` is that of `SkillRecord`: `plan`, or why there is no skill.
    """
    agent.begin([GoalPicture("goal", goal_image, steps=SKILL_BUDGET)], options.seed)
    decision = agent.act({"image": image, "state": np.array(options.state, np.float32)})
    if decision is None:
        return {"actions": [], "skills": [], "why": "budget"}
    record = decision.skills
    chosen = record.chosen if record else None
    return {
        "actions": [[round(float(x), 5) for x in action] for action in decision.plan],
        "energy_now": decision.energy,
        "energy_imagined": decision.imagined,
        "skills": list(chosen.skills) if chosen else [],
        "why": record.why if record else "budget",
        "parameters": [dict(part) for part in chosen.params] if chosen else [],
    }
