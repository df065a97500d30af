"""Programs: sequences of skills applied to objects, and the Gaussians of their parameters.

Shapes: B samples, P parameters, E elites, N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from planning.located import Located, pair_objects, wrap_half_turn
from planning.planner import Observation
from planning.skills.motions import HOME, PUSH_ON, Parameter, Skill, get_skill
from planning.skills.path import Array, Context, Expansion, join

INFORMED = 0.5
"""Share of the first samples drawn around the decoded displacement of the object."""
NARROW = 0.35
"""Spread of the informed samples, in spreads of the parameter."""
WIDE = 0.15
"""Probability that a parameter of a first sample is drawn from its whole range."""
NARROWEST = 0.02
"""Smallest spread of the prior, for parameters that are not drawn around their default [m, rad]."""
VARIED = 2.0
"""How unusual a variant of a skill is, apart from its first, see `Program.surprise`."""
FLOOR = 0.05
"""Smallest spread after a refit, in first spreads."""


@dataclass(frozen=True)
class Move:
    """A skill applied to one object."""

    skill: Skill
    """The skill."""
    target: int | None
    """Index of the object; None if the position is searched or not needed."""
    variant: int = 0
    """Index in the skill's variants."""

    def change(self, name: str) -> float:
        """Return how much the variant changes a parameter."""
        return self.skill.variants[self.variant].get(name, 0.0)


TALL_M, LONG = 0.0265, 0.6
"""Decoded height of the centre from which an object counts as round [m], and certainty of its yaw
in either image from which it does not: at the start pose `one_goal_labelled` decodes more for 97 %
of cups and less for 97 % of cubes and long boxes."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a search starts from."""

    seen: Observation
    """Tokens and state of the current frame."""
    goal_1ND: Tensor
    """Tokens of the goal image."""
    context: Context
    """Poses of the gripper now and at the start of the episode; without an object."""
    objects: Sequence[Located] | None = None
    """Objects decoded from the current frame; None if unknown."""
    goals: Sequence[Located] | None = None
    """Objects decoded from the goal image; None if unknown."""
    budget: int
    """Number of actions left, including those of the return home."""
    pushing: bool = False
    """Whether the closed fingers are behind an object, so that a push can continue."""
    given_up: frozenset[tuple[str, int]] = frozenset()
    """Skills and their variants that were given up because something was in the way."""
    sight_rad: float | None = None
    """Direction of the line of sight, along which tall objects are gripped [rad]; or None."""
    settled: frozenset[int] = frozenset()
    """Indices of the objects that are at their goals already."""
    at_home: bool = False
    """Whether the arm is at its start pose, where it hides no object."""

    def moves(self, names: Sequence[str], *, first: bool) -> list[Move]:
        """Return the possible moves: each variant of each skill on each object.

        Variants that were given up are left out, unless there is no other: the model imagined that
        they succeed, and would do so again. Objects at their goals are left where they are, unless
        all are.

        Args:
            names: Skills to choose from.
            first: Whether the move is the first of its program.
        """
        found = range(len(self.objects or ()))
        left = [index for index in found if index not in self.settled]
        targets: list[int | None] = [*(left or found)] if self.objects else [None]
        skills = [get_skill(name) for name in names]
        moves = [
            Move(skill, target, variant)
            for skill in skills
            for target in targets
            for variant in range(len(skill.variants))
        ]
        if first and self.pushing and "push" in names:
            moves.append(Move(PUSH_ON, None))
        others = [m for m in moves if (m.skill.name, m.variant) not in self.given_up]
        return others or moves

    def parameters(self, move: Move) -> tuple[Parameter, ...]:
        """Return a move's parameters; a start point only where the object's position is unknown."""
        known = self.context if move.target is None else replace(self.context, object_m=_XY)
        return move.skill.parameters(known)

    def informed(self, move: Move) -> dict[str, float]:
        """Return parameters aimed by the decoded poses of an object now and in the goal image."""
        if move.target is None or not self.objects or not self.goals:
            return {}
        pairs = dict(pair_objects(self.objects, self.goals))
        if move.target not in pairs:
            return {}
        now, goal = self.objects[move.target], self.goals[pairs[move.target]]
        change = goal.position_m - now.position_m
        known = {"vx": float(change[0]), "vy": float(change[1])}
        if now.yaw_rad is not None:
            known["grip_yaw"] = wrap_half_turn(now.yaw_rad - self.context.home_yaw_rad)
            if goal.yaw_rad is not None:
                known["turn"] = wrap_half_turn(goal.yaw_rad - now.yaw_rad)
        is_round = now.position_m[2] >= TALL_M and max(now.certainty, goal.certainty) < LONG
        if self.sight_rad is not None and is_round:
            across_rad = self.sight_rad - np.pi / 2  # at yaw 0 the fingers close along y
            known["grip_yaw"] = wrap_half_turn(across_rad - self.context.home_yaw_rad)
            known["turn"] = 0.0
        return known


def go_home(context: Context) -> Expansion:
    """Expand the return to the start pose from a context without or with a batch axis."""
    batch = 1 if context.tcp_m.ndim == 1 else len(context.tcp_m)
    return HOME.expand(context, np.zeros((batch, 0)))


@dataclass
class Program:
    """A sequence of moves, and the Gaussian from which its parameters are drawn."""

    problem: Problem
    moves: tuple[Move, ...]
    parameters: tuple[Parameter, ...]
    mean_P: Array
    std_P: Array
    informed_P: Array | None
    """Parameters aimed by the decoded poses; None where they are unknown."""
    default_P: Array
    """Parameters of the variant without knowledge of the poses."""
    params_BP: Array = field(init=False)
    """Parameters of every sample so far."""
    energies_B: Array = field(init=False)
    """Energies of every sample so far."""

    def __post_init__(self) -> None:
        self.params_BP = np.zeros((0, len(self.parameters)))
        self.energies_B = np.zeros(0)

    @classmethod
    def of(cls, problem: Problem, move: Move) -> Program:
        """Return the program of one move, with the skill's own prior."""
        parameters = problem.parameters(move)
        known = problem.informed(move)
        mean_P = np.array([_aim(p, p.mean, move) for p in parameters])
        std_P = np.array([p.spread for p in parameters])
        informed_P = None
        if known:
            informed_P = np.array([_aim(p, known.get(p.name, p.mean), move) for p in parameters])
        return cls(problem, (move,), parameters, mean_P, std_P, informed_P, mean_P)

    def extended(self, move: Move) -> Program:
        """Return the program with a further move; the earlier moves keep what was found."""
        last = Program.of(self.problem, move)
        informed_P = None if last.informed_P is None else [*self.mean_P, *last.informed_P]
        return Program(
            self.problem,
            (*self.moves, move),
            self.parameters + last.parameters,
            np.concatenate([self.mean_P, last.mean_P]),
            np.concatenate([self.std_P, last.std_P]),
            None if informed_P is None else np.array(informed_P),
            np.concatenate([self.default_P, last.default_P]),
        )

    def draw(self, number: int, rng: np.random.Generator) -> Array:
        """Draw parameters [number, P] inside their ranges; one of them is the mean."""
        low, high = self._ranges()
        noise = rng.standard_normal((number, len(low)))
        params_BP = self.mean_P + self.std_P * noise
        if len(self.energies_B):
            params_BP[:1] = self.mean_P
            return np.clip(params_BP, low, high)
        if self.informed_P is not None:
            near_BP = self.informed_P + NARROW * self.std_P * noise
            params_BP = np.where(rng.random((number, 1)) < INFORMED, near_BP, params_BP)
        # A lift over a wall is many spreads away from the default.
        wide = rng.random(params_BP.shape) < WIDE
        wide &= np.array([p.name not in ("vx", "vy", "x", "y") for p in self.parameters], bool)
        params_BP = np.where(wide, rng.uniform(low, high, params_BP.shape), params_BP)
        if self.informed_P is not None:
            params_BP[:1] = self.informed_P
        return np.clip(params_BP, low, high)

    def _ranges(self) -> tuple[Array, Array]:
        low, high = np.array([(p.low, p.high) for p in self.parameters]).reshape(-1, 2).T
        return low, high

    def note(self, params_BP: Array, energies_B: Array) -> None:
        """Add samples and their energies."""
        self.params_BP = np.concatenate([self.params_BP, params_BP])
        self.energies_B = np.concatenate([self.energies_B, energies_B])

    def surprise(self, params_BP: Array) -> Array:
        """Return how unusual parameters are [B]: the negative log of a heavy-tailed prior.

        The prior (a Cauchy distribution for each parameter) is centred on the decoded poses, with
        the spreads of the informed samples, or on the defaults, with the first spreads. Positions
        that nothing tells have none. A variant other than the first counts `VARIED`.
        """
        centre_P, spread = self.default_P, 1.0
        free = {"x", "y", "vx", "vy"}
        if self.informed_P is not None:
            centre_P, free, spread = self.informed_P, set(), NARROW
        spread_P = np.array([max(spread * p.spread, NARROWEST) for p in self.parameters])
        counts = np.array([p.name not in free for p in self.parameters], dtype=bool)
        away_BP = np.abs(params_BP - centre_P) / spread_P
        varied = sum(move.variant > 0 for move in self.moves)
        return np.log1p(np.square(away_BP[:, counts])).sum(axis=1) + VARIED * varied

    def refit(self, elites: int) -> None:
        """Fit the Gaussian to the best samples."""
        finite = int(np.isfinite(self.energies_B).sum())
        if finite < 2:
            return
        best = self.params_BP[self.energies_B.argsort(kind="stable")[: min(elites, finite)]]
        floor_P = FLOOR * np.array([p.spread for p in self.parameters])
        self.mean_P, self.std_P = best.mean(axis=0), np.maximum(best.std(axis=0), floor_P)

    @property
    def is_plain(self) -> bool:
        """Whether every move is the first variant of its skill."""
        return not any(move.variant for move in self.moves)

    @property
    def least(self) -> float:
        """Lowest energy so far; infinite without a sample that fits into the budget."""
        return float(self.energies_B.min(initial=np.inf))

    def split(self, params_BP: Array) -> Iterator[tuple[Move, Array]]:
        """Yield each move with its own parameters [B, P]."""
        first = 0
        for move in self.moves:
            count = len(self.problem.parameters(move))
            yield move, params_BP[:, first : first + count]
            first += count

    def named(self, params_P: Array) -> tuple[dict[str, float], ...]:
        """Return the parameters of each move by name."""
        return tuple(
            {
                parameter.name: float(value)
                for parameter, value in zip(self.problem.parameters(move), own_1P[0], strict=True)
            }
            for move, own_1P in self.split(params_P[None])
        )

    def expand(self, params_BP: Array) -> Expansion:
        """Expand all moves, each from where the one before it ends."""
        whole: Expansion | None = None
        earlier: int | None = None
        for move, own_BP in self.split(params_BP):
            context = self.problem.context if whole is None else whole.end
            if move.target is None or not self.problem.objects:
                context = replace(context, object_m=None)
            elif whole is None or earlier != move.target:
                context = replace(
                    context, object_m=self.problem.objects[move.target].position_m[:2]
                )
            part = move.skill.expand(context, own_BP)
            whole, earlier = part if whole is None else join(whole, part), move.target
        assert whole is not None, "a program has at least one move"
        return whole


def _aim(parameter: Parameter, value: float, move: Move) -> float:
    """Return the value of a parameter in a move's variant."""
    value += move.change(parameter.name)
    return wrap_half_turn(value) if parameter.unit == "rad" else value


_XY = np.zeros(2)
"""Any position: a known object makes the start point no parameter."""
