"""Agents that plan skills: look, choose a skill, execute it, and look again.

The arm goes home when the decoded objects are at their goals, when no plan is imagined to be better
than going home, and when the step budget ends. At home, with a free view, the agent looks once
more.

Shapes: K actions, A action (7).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from planning.energy import energy
from planning.planner import Observation
from planning.policy import Policy
from planning.protocols import Decision, Reading, SkillModel, SubGoal
from planning.skill_imagination import Located, locate, pair_objects, wrap_half_turn
from planning.skill_options import SkillOptions
from planning.skill_path import STEP_M, Array, Context, Expansion, join
from planning.skill_programs import Problem, go_home
from planning.skill_record import Candidate, SkillRecord, Why
from planning.skill_search import SkillPlan, SkillSearch
from planning.skills import PICK_PLACE, PUSH_ON

CLOSED = 0.5
"""Closedness above which the gripper counts as closed."""
BLOCKED_M = 0.03
"""Distance of the fingertips from where they should be beyond which a skill is given up, because
something is in the way or the action was not sent [m]."""
LEAST_ACTIONS = 5
"""With fewer actions left, the arm goes home."""
YAW_TOLERANCE_RAD = 0.12
"""Yaw error below which an object counts as turned to its goal [rad]."""

Fingertips = Callable[[NDArray[np.float64]], tuple[Array, float]]
"""Position [3, m] of the fingertips and yaw [rad] of the gripper for a state of the arm."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Skills to execute next."""

    chosen: Candidate
    """The chosen skills."""
    expansion: Expansion
    """Their actions, a batch of 1."""
    plan: SkillPlan | None = None
    """The search behind the choice; None without imagination."""


class Chooser(Protocol):
    """Chooses the next skills."""

    def choose(self, problem: Problem, rng: np.random.Generator) -> Choice | None:
        """Return the next skills, or None to go home."""


class SearchChooser:
    """Chooses by search; goes home if no plan is imagined to be better."""

    def __init__(self, search: SkillSearch) -> None:
        self.search = search

    def choose(self, problem: Problem, rng: np.random.Generator) -> Choice | None:
        """Return the best plan, or None if going home is imagined to end nearer the goal."""
        plan = self.search.plan(problem, rng)
        if plan is None or plan.best.energy >= plan.rest_energy:
            return None
        return Choice(chosen=plan.best, expansion=plan.expansion, plan=plan)


class GeometryChooser:
    """Baseline without imagination: picks the object that has to move farthest, and places it.

    Both positions are those of the object head; all other parameters have their defaults.
    """

    def choose(self, problem: Problem, rng: np.random.Generator) -> Choice | None:
        """Return a pick-and-place by the decoded displacement, or None if nothing was decoded."""
        if not problem.objects or not problem.goals:
            return None
        pairs = pair_objects(problem.objects, problem.goals)
        moves = [(problem.objects[i], problem.goals[j]) for i, j in pairs]
        now, goal = max(moves, key=lambda pair: distance_m(*pair))
        context = replace(problem.context, object_m=now.position_m[:2])
        change = goal.position_m - now.position_m
        params = PICK_PLACE.defaults(context)
        names = [parameter.name for parameter in PICK_PLACE.parameters(context)]
        params[names.index("vx")], params[names.index("vy")] = change[0], change[1]
        expansion = PICK_PLACE.expand(context, params)
        if len(go_home(expansion.end).actions_BKA[0]) + expansion.lengths_B[0] > problem.budget:
            return None
        values = {name: float(value) for name, value in zip(names, params, strict=True)}
        chosen = Candidate(
            skills=("pick_place",), targets=(None,), params=(values,), energy=float("nan")
        )
        return Choice(chosen=chosen, expansion=expansion)


def distance_m(now: Located, goal: Located) -> float:
    """Return the horizontal distance of an object from its goal [m]."""
    return float(np.linalg.norm((goal.position_m - now.position_m)[:2]))


@dataclass
class _Goal:
    """A goal image with its tokens and decoded objects."""

    z_1ND: Tensor
    objects: list[Located] | None
    steps: int


class SkillAgent:
    """Agent that executes skills toward each goal image in turn.

    Args:
        policy: Encodes images and converts actions.
        model: World model of the policy, whose object head decodes poses.
        options: Settings of skills.
        fingertips: Converts a state of the arm.
        chooser: Chooses the skills.
    """

    def __init__(
        self,
        policy: Policy,
        model: SkillModel,
        options: SkillOptions,
        fingertips: Fingertips,
        chooser: Chooser,
    ) -> None:
        self.policy, self.model, self.options = policy, model, options
        self.fingertips, self.chooser = fingertips, chooser

    def begin(self, goals: list[SubGoal], seed: int) -> None:
        """Encode the goals of a new episode and seed the search."""
        self.rng = np.random.default_rng(seed)
        self.goals = [self._goal(goal) for goal in goals]
        self.index = self.spent = 0
        self.queue: list[NDArray[np.float32]] = []
        self.start: tuple[Array, float] | None = None
        self.pushing, self.heading_rad = False, 0.0
        self.expected_m: Array | None = None
        self.imagined = float("nan")

    def _goal(self, goal: SubGoal) -> _Goal:
        z_1ND = self.policy.encode(goal.image)
        return _Goal(z_1ND, self._locate(z_1ND), goal.steps)

    def _locate(self, z_1ND: Tensor) -> list[Located] | None:
        return locate(self.model, z_1ND) if self.options.start == "located" else None

    def act(self, observation: Reading) -> Decision | None:
        """Return the next action, or None if every goal is done or its budget spent."""
        began = time.perf_counter()
        if self.index >= len(self.goals):
            return None
        state = np.asarray(observation["state"], dtype=np.float64)
        seen = self.policy.observe(observation["image"], observation["state"])
        encoded = time.perf_counter()
        self._drop_if_blocked(state)
        record = None
        while not self.queue:
            if self.spent < self.goals[self.index].steps:
                record = self._look(seen, state, encoded - began)
            if not self.queue:  # at home with nothing to do, or no budget left
                self.index, self.spent = self.index + 1, 0
                if self.index >= len(self.goals):
                    return None
        goal = self.goals[self.index]
        action, *rest = self.queue
        self.queue, self.spent = rest, self.spent + 1
        self.expected_m = self.fingertips(state)[0] + action[:3]
        if self.spent >= goal.steps:
            self.queue = []
        now = float(energy(seen.z_1ND, goal.z_1ND)[0])
        if record is not None:
            self.imagined = record.chosen.energy if record.chosen else record.rest_energy
        return Decision(
            action=action,
            sub_goal=self.index,
            energy=now,
            imagined=self.imagined if np.isfinite(self.imagined) else now,
            seconds={"encode": encoded - began, "plan": time.perf_counter() - encoded},
            plan=[row.tolist() for row in (action, *rest)],
            skills=record,
        )

    def _drop_if_blocked(self, state: NDArray[np.float64]) -> None:
        """Give up a skill if the fingertips are not where its last action should have led."""
        if not self.queue or self.expected_m is None:
            return
        if np.linalg.norm(self.fingertips(state)[0] - self.expected_m) > BLOCKED_M:
            self.queue, self.pushing = [], False

    def _context(self, state: NDArray[np.float64]) -> Context:
        tcp_m, yaw_rad = self.fingertips(state)
        if self.start is None:
            self.start = tcp_m, yaw_rad
        home_m, home_yaw = self.start
        bounds = self.policy.bounds
        context = Context(
            tcp_m=tcp_m,
            yaw_rad=yaw_rad,
            closed=bool(state[6] > CLOSED) or self.pushing,
            home_tcp_m=home_m,
            home_yaw_rad=home_yaw,
            heading_rad=self.heading_rad,
            step_m=min(STEP_M, bounds.max_step_m),
        )
        if bounds.low_m is None or bounds.high_m is None:
            return context
        offset = tcp_m - state[:3]  # the workspace is that of the arm's own state
        low, high = bounds.low_m + offset, bounds.high_m + offset
        return replace(context, low_m=_point(low), high_m=_point(high))

    def _look(self, seen: Observation, state: NDArray[np.float64], encode_s: float) -> SkillRecord:
        """Decide what to do next, fill the queue, and return the record of the decision."""
        began = time.perf_counter()
        goal = self.goals[self.index]
        problem = Problem(
            seen=seen,
            goal_1ND=goal.z_1ND,
            context=self._context(state),
            objects=self._locate(seen.z_1ND),
            goals=goal.objects,
            budget=goal.steps - self.spent,
            pushing=self.pushing,
        )
        why: Why = "plan"
        choice = None
        if problem.budget < LEAST_ACTIONS:
            why = "budget"
        elif self._reached(problem):
            why = "reached"
        else:
            choice = self.chooser.choose(problem, self.rng)
            why = "no better plan" if choice is None else "plan"
        self._follow(problem, choice)
        plan = choice.plan if choice else None
        parts = dict(plan.seconds) if plan else {}
        other = time.perf_counter() - began - sum(parts.values())
        return SkillRecord(
            why=why,
            executed=len(self.queue),
            energy_now=float(energy(seen.z_1ND, goal.z_1ND)[0]),
            rest_energy=plan.rest_energy if plan else float("nan"),
            chosen=choice.chosen if choice else None,
            candidates=plan.candidates if plan else (),
            objects=_poses(problem.objects),
            goals=_poses(problem.goals),
            imagined_ND=plan.end_1ND[0].half().cpu().numpy() if plan else None,
            seconds={"encode": encode_s, **parts, "other": other},
        )

    def _reached(self, problem: Problem) -> bool:
        """Return whether every decoded object is at its goal."""
        if not problem.objects or not problem.goals:
            return False
        pairs = pair_objects(problem.objects, problem.goals)
        for now, goal in [(problem.objects[i], problem.goals[j]) for i, j in pairs]:
            if distance_m(now, goal) >= self.options.stop_m:
                return False
            if now.yaw_rad is None or goal.yaw_rad is None:
                continue
            if abs(wrap_half_turn(goal.yaw_rad - now.yaw_rad)) > YAW_TOLERANCE_RAD:
                return False
        return True

    def _follow(self, problem: Problem, choice: Choice | None) -> None:
        """Fill the queue with the actions until the next look."""
        strokes = self.options.look == "stroke"
        if choice is None:
            home = go_home(problem.context)
            if self.pushing:  # retreat first: rising in contact would drag the object along
                retreat = PUSH_ON.expand(problem.context, PUSH_ON.defaults(problem.context))
                home = join(retreat, go_home(retreat.end))
            self.pushing = False
            self._queue(home, int(home.lengths_B[0]))
            return
        whole, pushes = choice.expansion, choice.chosen.skills[0] in ("push", "push_on")
        count, last = int(whole.executed_B[0]), int(whole.last_B[0])
        self.pushing = strokes and pushes and last > int(whole.contact_B[0])
        if self.pushing:
            count = last
        self.heading_rad = float(np.asarray(whole.end.heading_rad).reshape(-1)[0])
        self._queue(whole, count)

    def _queue(self, whole: Expansion, count: int) -> None:
        self.queue = list(whole.actions_BKA[0, :count])


def _point(values: Array) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _poses(objects: Sequence[Located] | None) -> list[tuple[float, float, float, float | None]]:
    return [(*_point(o.position_m), o.yaw_rad) for o in objects or ()]


class CopyModel:
    """Baseline model: predicts that no action changes anything.

    Args:
        model: World model that encodes, decodes and converts.
    """

    def __init__(self, model: SkillModel) -> None:
        self.model = model
        self.observation_spec, self.action_spec = model.observation_spec, model.action_spec
        self.preprocess, self.encode = model.preprocess, model.encode
        self.convert_state, self.remember = model.convert_state, model.remember
        self.next_state, self.locate = model.next_state, model.locate

    def unroll(
        self, z_BND: Tensor, state_BS: Tensor, actions_BKA: Tensor, past: object = None
    ) -> Tensor:
        """Return the current tokens for every step [B, K, N, D]."""
        batch, horizon = actions_BKA.shape[:2]
        return z_BND.expand(batch, -1, -1)[:, None].expand(-1, horizon, -1, -1)
