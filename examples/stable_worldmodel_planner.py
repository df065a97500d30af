"""Plan across stable-worldmodel: our searches on its tasks, its searches on our models.

    pip install worldmodel stable-worldmodel

`WorldModelCost` gives its solvers (CEM, iCEM, MPPI, ...) the energy of a world model.
`SearchSolver` is a solver for its `WorldModelPolicy` that searches with our optimisers.
`tests/e2e/test_stable_worldmodel.py` shows both.

Shapes: E environments, B samples, K steps, A numbers of an action, N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import gymnasium
import torch
from torch import Tensor

from planning.bounds import Bounds
from planning.solvers.cem import CEM
from planning.solvers.search import EliteSolver
from worldmodel.models.energy import token_distance
from worldmodel.models.world_model import WorldModel

PLANNED = 3
"""Largest number of an action's components: our searches plan x, y and z."""


class Costable(Protocol):
    """What its solvers search: the costs [E, B] of action sequences [E, B, K, A]."""

    def get_cost(self, info_dict: dict[str, Any], action_candidates: Tensor) -> Tensor:
        """Return the costs."""


class WorldModelCost:
    """Energy of a world model, as stable-worldmodel's solvers ask for it.

    The `info_dict` holds, expanded over the samples as its solvers do, `tokens` [E, B, N, D] of the
    current frame, `state` [E, B, S] of the robot and `goal_tokens` [E, B, N, D].
    """

    def __init__(self, world: WorldModel) -> None:
        """Take the model, whose actions the solvers must propose (DROID's 7 numbers)."""
        self.world = world

    @torch.no_grad()
    def get_cost(self, info_dict: dict[str, Tensor], action_candidates: Tensor) -> Tensor:
        """Return the distance of each imagined end from the goal [E, B]."""
        costs = []
        for index, actions_BKA in enumerate(action_candidates):
            z_1ND, goal_1ND = (info_dict[k][index, :1] for k in ("tokens", "goal_tokens"))
            state_1S = info_dict["state"][index, :1]
            imagined_BKND = self.world.unroll(z_1ND, state_1S, actions_BKA)
            costs.append(token_distance(imagined_BKND[:, -1], goal_1ND))
        return torch.stack(costs)

    criterion = get_cost


class SearchSolver:
    """Solver for stable-worldmodel's policies: one of our searches per environment.

    Actions must be a symmetric box of at most 3 numbers, one step each (`action_block=1`).
    """

    def __init__(self, model: Costable, search: EliteSolver | None = None, seed: int = 0) -> None:
        """Take the model to search, the search (None: CEM) and the seed of its samples."""
        self.model, self.search = model, search or CEM(num_samples=150, iterations=6, num_elites=15)
        self.generator = torch.Generator().manual_seed(seed)

    def configure(self, *, action_space: gymnasium.spaces.Box, n_envs: int, config: Any) -> None:
        """Adopt a vector environment's actions and a plan's length.

        Raises:
            ValueError: The actions are not a symmetric box of at most 3 numbers, or repeat.
        """
        high, low = (torch.as_tensor(side[0]) for side in (action_space.high, action_space.low))
        is_symmetric = torch.allclose(high, -low) and bool(high.isfinite().all())
        if high.ndim != 1 or len(high) > PLANNED or not is_symmetric or config.action_block != 1:
            raise ValueError(
                f"The actions {action_space} with action_block={config.action_block} cannot be "
                f"searched; allowed: at most {PLANNED} numbers between -x and x, action_block=1"
            )
        self.high_A, self._n_envs, self._horizon = high, n_envs, config.horizon

    @property
    def action_dim(self) -> int:
        """Numbers of an action."""
        return len(self.high_A)

    @property
    def n_envs(self) -> int:
        """Number of environments."""
        return self._n_envs

    @property
    def horizon(self) -> int:
        """Number of actions of a plan."""
        return self._horizon

    def solve(
        self, info_dict: Mapping[str, Any], init_action: Tensor | None = None
    ) -> dict[str, Any]:
        """Search each environment's plan.

        Args:
            info_dict: Arrays with the environment as first axis.
            init_action: Previous plans [E, up to K, A], from which the searches start.

        Returns:
            `actions` [E, K, A] and `costs`, the energy of each plan.
        """
        count = len(next(iter(info_dict.values())))
        plans = [self._solve_one(info_dict, index, init_action) for index in range(count)]
        actions = torch.stack([actions_KA for actions_KA, _ in plans])
        return {"actions": actions, "costs": [energy for _, energy in plans]}

    __call__ = solve

    def _solve_one(
        self, info_dict: Mapping[str, Any], index: int, init_action: Tensor | None
    ) -> tuple[Tensor, float]:
        def cost(actions_BK7: Tensor) -> Tensor:
            candidates = self._scaled(actions_BK7)[None]
            samples = len(actions_BK7)
            expanded = {
                key: torch.as_tensor(value[index])[None, None].expand(
                    1, samples, *(-1,) * torch.as_tensor(value[index]).ndim
                )
                for key, value in info_dict.items()
                if not isinstance(value[index], str)
            }
            return self.model.get_cost(expanded, candidates)[0]

        start_K4 = torch.zeros(self.horizon, PLANNED + 1)
        if init_action is not None:
            given = init_action[index, : self.horizon]
            start_K4[: len(given), : self.action_dim] = given / self.high_A
        bounds = Bounds(max_step_m=1.0, gripper_free=False)  # plans are in shares of the box
        plan = self.search.minimise(
            cost, bounds, self.generator, horizon=self.horizon, start_K4=start_K4
        )
        return self._scaled(plan.actions_KA), plan.energy

    def _scaled(self, actions_K7: Tensor) -> Tensor:
        return actions_K7[..., : self.action_dim] * self.high_A
