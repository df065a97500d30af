"""What chooses the next skills: a search by imagination, or decoded poses alone as a baseline.

Shapes: B samples, N tokens, D width, K horizon, S state, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from planning.located import Located, pair_objects, wrap_half_turn
from planning.protocols import SkillModel
from planning.skill_record import Candidate
from planning.skills.imagination import M_PER_RAD, locate
from planning.skills.motions import PICK_PLACE
from planning.skills.path import Array, Expansion
from planning.skills.programs import Move, Problem, Program
from planning.skills.search import SkillPlan, SkillSearch


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Skills to execute next."""

    chosen: Candidate
    """The chosen skills."""
    expansion: Expansion
    """Their actions, a batch of 1."""


class Chooser(Protocol):
    """Chooses the next skills."""

    turns: bool
    """Whether objects have to be turned to their goal's yaw as well."""

    def choose(
        self, problem: Problem, rng: np.random.Generator
    ) -> tuple[Choice | None, SkillPlan | None]:
        """Return the next skills (None to go home), and the search behind the choice, if any."""


NEARER = 0.5
"""Share of an object's distance from its goal below which it counts as brought there."""


class SearchChooser:
    """Chooses by search; goes home if no plan is imagined to be better.

    At home, a plan that is not better in total is chosen as well if its own object is imagined
    near its goal: what the model loses there is another object, which the skill does not touch.
    """

    turns = True

    def __init__(self, search: SkillSearch) -> None:
        self.search = search

    def choose(
        self, problem: Problem, rng: np.random.Generator
    ) -> tuple[Choice | None, SkillPlan | None]:
        """Return the best plan, or no choice if going home is imagined to end nearer the goal."""
        plan = self.search.plan(problem, rng)
        if plan is None:
            return None, None
        better = plan.best.energy < plan.rest_energy
        if not better and not (problem.at_home and self._brings_nearer(problem, plan)):
            return None, plan
        return Choice(chosen=plan.best, expansion=plan.expansion), plan

    def _brings_nearer(self, problem: Problem, plan: SkillPlan) -> bool:
        """Return whether the first moved object is imagined near its goal."""
        pairs = dict(pair_objects(problem.objects or (), problem.goals or ()))
        target = plan.best.targets[0]
        if target is None or target not in pairs or not problem.objects or not problem.goals:
            return False
        goal_m = problem.goals[pairs[target]].position_m
        ends = locate(self.search.imagination.model, plan.end_1ND) or ()
        now, end = (_nearest_m(objects, goal_m) for objects in (problem.objects, ends))
        return end < NEARER * now


class GeometryChooser:
    """Baseline without imagination: picks the object that is farthest from its goal, and places it.

    Both positions are those of the object head. All other parameters have their defaults, which
    keep the yaw.

    Args:
        turns: Whether to grip and turn by the decoded yaws as well.
    """

    def __init__(self, *, turns: bool = False) -> None:
        self.turns = turns

    def choose(
        self, problem: Problem, rng: np.random.Generator
    ) -> tuple[Choice | None, SkillPlan | None]:
        """Return a pick-and-place by the decoded poses, or no choice if nothing was decoded."""
        if not problem.objects or not problem.goals:
            return None, None
        pairs = pair_objects(problem.objects, problem.goals)
        moves = {i: pose_error_m(problem.objects[i], problem.goals[j]) for i, j in pairs}
        move = Move(PICK_PLACE, max(moves, key=lambda i: moves[i]))
        program = Program.of(problem, move)
        known = problem.informed(move)
        aimed = known if self.turns else {name: known[name] for name in ("vx", "vy")}
        values = {p.name: aimed.get(p.name, p.mean) for p in program.parameters}
        expansion = program.expand(np.array([list(values.values())]))
        if expansion.lengths_B[0] > problem.budget:
            return None, None
        chosen = Candidate(
            skills=("pick_place",),
            targets=(move.target,),
            params=(values,),
            variants=(0,),
            energy=float("nan"),
        )
        return Choice(chosen=chosen, expansion=expansion), None


def _nearest_m(objects: Sequence[Located], place_m: Array) -> float:
    """Return the horizontal distance of a place from the nearest object [m]."""
    return min((float(np.linalg.norm((o.position_m - place_m)[:2])) for o in objects), default=1.0)


def pose_error_m(now: Located, goal: Located) -> float:
    """Return how far an object is from its goal [m]; a yaw error counts by `M_PER_RAD`."""
    return float(np.linalg.norm((goal.position_m - now.position_m)[:2])) + M_PER_RAD * yaw_error(
        now, goal
    )


def yaw_error(now: Located, goal: Located) -> float:
    """Return the yaw error modulo half a turn [rad]; 0 where a yaw is unknown."""
    if now.yaw_rad is None or goal.yaw_rad is None:
        return 0.0
    return abs(wrap_half_turn(goal.yaw_rad - now.yaw_rad))


class CopyModel:
    """Baseline model: predicts that no action changes anything.

    Args:
        model: World model that encodes, decodes and converts.
    """

    def __init__(self, model: SkillModel) -> None:
        self.model = model
        self.observation_spec, self.action_spec = model.observation_spec, model.action_spec
        self.preprocess, self.encode = model.preprocess, model.encode
        self.encode_main = model.encode_main
        self.convert_state, self.remember = model.convert_state, model.remember
        self.next_state, self.locate = model.next_state, model.locate
        self.locate_at_home = model.locate_at_home

    def unroll(
        self, z_BND: Tensor, state_BS: Tensor, actions_BKA: Tensor, past: object = None
    ) -> Tensor:
        """Return the current tokens for every step [B, K, N, D]."""
        batch, horizon = actions_BKA.shape[:2]
        return z_BND.expand(batch, -1, -1)[:, None].expand(-1, horizon, -1, -1)
