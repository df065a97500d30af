"""Agents that plan skills: look, choose a skill, execute it, and look again.

The arm goes home when the decoded objects are at their goals, when no plan is imagined to be better
than going home, and when the step budget ends. At home, with a free view, the agent looks once
more.

Shapes: K actions, A action (7).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from planning.device_clock import clock
from planning.energy import energy
from planning.located import Located, pair_objects
from planning.planner import Observation
from planning.policy import Policy
from planning.protocols import Decision, Reading, SkillModel, SubGoal
from planning.skill_options import SkillOptions
from planning.skill_record import Candidate, SkillRecord, Why
from planning.skills.choosers import Choice, Chooser, yaw_error
from planning.skills.gripper_watch import GripperWatch
from planning.skills.imagination import locate
from planning.skills.motions import PUSH_ON
from planning.skills.path import STEP_M, Array, Context, Expansion, join
from planning.skills.programs import Problem, go_home

CLOSED = 0.5
"""Closedness above which the gripper counts as closed."""
BLOCKED_M = 0.03
"""Distance of the fingertips from where they should be beyond which a skill is given up, because
something is in the way or the action was not sent [m]."""
LEAST_ACTIONS = 5
"""With fewer actions left, the arm goes home."""
AT_HOME_M, AT_HOME_RAD = 0.01, 0.05
"""Distance and rotation from the start pose within which the arm is at home."""
GRASPS = ("pick_place", "regrasp")
"""Skills that close the gripper on an object."""
YAW_TOLERANCE_RAD = 0.2
"""Yaw error below which an object counts as turned to its goal [rad]."""

Fingertips = Callable[[NDArray[np.float64]], tuple[Array, float]]
"""Position [3, m] of the fingertips and yaw [rad] of the gripper for a state of the arm."""


def is_home(context: Context) -> bool:
    """Return whether the open gripper is at its start pose."""
    away_m = np.linalg.norm(context.tcp_m - context.home_tcp_m)
    turned_rad = abs(float(np.asarray(context.yaw_rad)) - context.home_yaw_rad)
    return bool(away_m < AT_HOME_M and turned_rad < AT_HOME_RAD and not context.closed)


@dataclass
class _Goal:
    """A goal image as tokens, with the arm's state in it."""

    z_1ND: Tensor
    state: NDArray[np.float64]
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
        self.finished = False
        self.queue: list[NDArray[np.float32]] = []
        self.start: tuple[Array, float] | None = None
        self.pushing, self.heading_rad = False, 0.0
        self.expected_m: Array | None = None
        self.imagined = float("nan")
        self.chosen: Candidate | None = None
        self.given_up: set[tuple[str, int]] = set()
        self.gripper = GripperWatch()

    def _goal(self, goal: SubGoal) -> _Goal:
        z_1ND = self.policy.encode_goal(goal)
        return _Goal(z_1ND, np.asarray(goal.state, dtype=np.float64), goal.steps)

    def _locate(self, z_1ND: Tensor, *, at_home: bool) -> list[Located] | None:
        if self.options.start != "located":
            return None
        return locate(self.model, z_1ND, at_home=at_home)

    def act(self, observation: Reading) -> Decision | None:
        """Return the next action, or None if every goal is done or its budget spent."""
        began = time.perf_counter()
        if self.index >= len(self.goals):
            return None
        state = np.asarray(observation["state"], dtype=np.float64)
        seen = self.policy.look(observation)
        encoded = clock(seen.z_1ND.device)
        self._drop_if_blocked(state)
        self._leave_if_empty(state)
        record = None
        while not self.queue:
            if self.finished or self.spent >= self.goals[self.index].steps:
                self.index, self.spent, self.finished = self.index + 1, 0, False
                self.given_up.clear()
                if self.index >= len(self.goals):
                    return None
            record = self._look(seen, state, encoded - began)
        goal = self.goals[self.index]
        action, rest = self._next_action()
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
            if self.chosen is not None:
                self.given_up.add((self.chosen.skills[0], self.chosen.variants[0]))

    def _leave_if_empty(self, state: NDArray[np.float64]) -> None:
        """Go home from a grasp that closed on nothing: the rest of the skill would move nothing."""
        self.gripper.look(float(state[6]))
        grasps = self.chosen is not None and self.chosen.skills[0] in GRASPS
        if self.queue and grasps and self.gripper.is_empty:
            home = go_home(self._context(state))
            self._queue(home, int(home.lengths_B[0]))

    def _next_action(self) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
        """Return the next action and those after it; without motion while fingers are closing."""
        if self.gripper.must_wait:
            self.gripper.waited()
            return np.zeros(7, dtype=np.float32), self.queue
        action, *rest = self.queue
        self.gripper.sent(action)
        return action, rest

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
        context, sight_deg = self._context(state), self.options.sight_deg
        objects = self._locate(seen.z_1ND, at_home=is_home(context))
        shown = replace(self._context(goal.state), closed=bool(goal.state[6] > CLOSED))
        goals = self._locate(goal.z_1ND, at_home=is_home(shown))
        settled = self._settled(objects or (), goals or ())
        problem = Problem(
            seen=seen,
            goal_1ND=goal.z_1ND,
            context=context,
            objects=objects,
            goals=goals,
            budget=goal.steps - self.spent,
            pushing=self.pushing,
            given_up=frozenset(self.given_up),
            sight_rad=None if sight_deg is None else math.radians(sight_deg),
            settled=settled,
            at_home=is_home(context),
        )
        choice, plan = None, None
        if problem.budget < LEAST_ACTIONS:
            why: Why = "budget"
        elif settled and len(settled) == min(len(objects or ()), len(goals or ())):
            why = "reached"
        else:
            choice, plan = self.chooser.choose(problem, self.rng)
            why = "no better plan" if choice is None else "plan"
        self.chosen = choice.chosen if choice else None
        self._follow(problem, choice)
        parts = dict(plan.seconds) if plan else {}
        other = time.perf_counter() - began - sum(parts.values())
        return SkillRecord(
            why=why,
            executed=len(self.queue),
            energy_now=float(energy(seen.z_1ND, goal.z_1ND)[0]),
            rest_energy=plan.rest_energy if plan else float("nan"),
            chosen=self.chosen,
            candidates=plan.candidates if plan else (),
            objects=_poses(problem.objects),
            goals=_poses(problem.goals),
            imagined_ND=plan.end_1ND[0].half().cpu().numpy() if plan else None,
            seconds={"encode": encode_s, **parts, "other": other},
        )

    def _settled(self, objects: Sequence[Located], goals: Sequence[Located]) -> frozenset[int]:
        """Return the indices of the objects at their goals."""
        pairs = pair_objects(objects, goals)
        return frozenset(i for i, j in pairs if self._is_settled(objects[i], goals[j]))

    def _is_settled(self, now: Located, goal: Located) -> bool:
        if np.linalg.norm((goal.position_m - now.position_m)[:2]) >= self.options.stop_m:
            return False
        return not self.chooser.turns or yaw_error(now, goal) <= YAW_TOLERANCE_RAD

    def _follow(self, problem: Problem, choice: Choice | None) -> None:
        """Fill the queue with the actions until the next look."""
        strokes = self.options.look == "stroke"
        if choice is None:
            if is_home(problem.context):  # nothing to do: a last action without motion
                self.queue, self.finished = [np.zeros(7, dtype=np.float32)], True
                return
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
