"""Reach goal images in MuJoCo with the embedded model, and count successes.

    python examples/evaluate_in_mujoco.py [EPISODES]

This is the loop of `worldmodel eval`, without baselines and report. Your own robot works in the
same way: replace `env` by any object that provides an `arm_spec`, images and states.
"""

from __future__ import annotations

import sys

import envs
from planning.policy import Policy
from worldmodel import load_world_model


def main(episodes: int = 3) -> int:
    """Run episodes, print each outcome and return the number of successes."""
    env = envs.make("reach", terminate_on_success=True)
    # connect() checks the period and the state and action sizes, and adopts the arm's step limits.
    policy = Policy(load_world_model("default")).connect(env.arm_spec)
    successes = 0
    for seed in range(episodes):
        seen, info = env.reset(seed=seed)
        goal = policy.encode(env.sub_goals()[-1].image)
        memory, steps, done = None, 0, False
        while not done:
            plan, memory = policy.plan(seen, goal, memory)
            # Execute only the first action, then observe again: model predictive control.
            seen, _, terminated, truncated, info = env.step(plan.actions_KA[0].numpy())
            done, steps = terminated or truncated, steps + 1
        successes += info["success"]
        print(f"seed {seed}: {'success' if info['success'] else 'failure'} after {steps} steps")
    env.close()
    print(f"{successes} of {episodes} episodes succeeded")
    return successes


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:2]))
