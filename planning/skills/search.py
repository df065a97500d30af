"""Search over skills, their parameters and their order by imagined energy.

An iteration draws samples of all programs, imagines them in one batch, and refits the Gaussians of
the programs to the elites; programs with more elites get more of the next samples (the
cross-entropy method over a discrete and a continuous variable). Deeper programs extend the best
shorter ones by a further skill.

Shapes: B samples, P parameters, K actions, N tokens, D width, A action (7).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from planning.skill_options import SkillOptions
from planning.skill_record import Candidate
from planning.skills.imagination import Imagination
from planning.skills.path import Array, Expansion, join
from planning.skills.programs import Problem, Program, go_home

FIRST, FIRST_ANYWHERE = 2, 6
"""Factor on the number of samples of the first iteration, if the objects are located, or not."""
FIRST_SHARE = 2.0
"""Factor on the first samples of programs without a variant."""
KEPT = 4
"""Smallest number of samples to which a program's Gaussian is refitted."""
BEAM = 3
"""Number of programs that are extended by a further move."""
MEAN_SLACK, MEAN_SLACK_M = 0.05, 0.01
"""Energy by which the mean of the elites may be worse than the best sample and is still chosen:
relative for the latent energy, in metres for the object energy."""
SPREAD_SHARE = 0.25
"""Share of the later samples that is spread evenly over all programs."""
DEEPER_GAIN = 0.05
"""Relative energy that a further move must gain."""
ACTION_COST = 0.001
"""Energy of an action, relative to the energy of going home at once."""
SURPRISE_COST = 0.15
"""Energy of unusual parameters (`Program.surprise`), relative to the energy of going home at once.
Without it the search exploits errors of the model with parameters that training rarely showed."""
SHOWN = 8
"""Number of best candidates whose paths are kept for the report."""


@dataclass(frozen=True, kw_only=True)
class SkillPlan:
    """Result of a search."""

    best: Candidate
    """The chosen program."""
    expansion: Expansion
    """Its actions, a batch of 1, without the return home."""
    rest_energy: float
    """Energy of going home at once."""
    end_1ND: Tensor
    """Imagined tokens at the end of the chosen program (after the return home for the latent
    energy)."""
    candidates: tuple[Candidate, ...]
    """Imagined programs in order of energy, the best few with their paths."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Duration of each part [s]: expand, unroll, energy."""


class SkillSearch:
    """Searches for the skills whose imagined outcome is nearest to a goal.

    Args:
        imagination: Predicts the ends of skills.
        options: Settings of the search.
    """

    def __init__(self, imagination: Imagination, options: SkillOptions) -> None:
        self.imagination, self.options = imagination, options

    def plan(self, problem: Problem, rng: np.random.Generator) -> SkillPlan | None:
        """Return the best program, or None if no skill fits into the remaining budget.

        Args:
            problem: Start and goal.
            rng: Random generator.

        Raises:
            EnergyError: The model predicted tokens that are not finite.
        """
        return _Run(self.imagination, self.options, problem, rng).plan()


Found = tuple[float, Program, Array]
"""Energy, program and parameters [P] of a solution."""


class _Run:
    """State of one search."""

    def __init__(
        self,
        imagination: Imagination,
        options: SkillOptions,
        problem: Problem,
        rng: np.random.Generator,
    ) -> None:
        self.imagination, self.options = imagination, options
        self.problem, self.rng = problem, rng
        self.seconds = dict.fromkeys(("expand", "unroll", "energy"), 0.0)
        self.action_cost = 0.0
        home = go_home(problem.context)
        self.rest_energy = float(self._energies(home.actions_BKA, home.lengths_B)[0])
        self.action_cost = ACTION_COST * self.rest_energy

    def plan(self) -> SkillPlan | None:
        names = self.options.skills
        programs = [Program.of(self.problem, m) for m in self.problem.moves(names, first=True)]
        best, everything = self._search(programs), list(programs)
        for _ in range(1, self.options.depth):
            if best is None:
                break
            beam = sorted(programs, key=lambda program: program.least)[:BEAM]
            further = self.problem.moves(names, first=False)
            programs = [program.extended(move) for program in beam for move in further]
            everything += programs
            deeper = self._search(programs)
            if deeper is None or deeper[0] > (1 - DEEPER_GAIN) * best[0]:
                break
            best = deeper
        return None if best is None else self._result(best, everything)

    def _search(self, programs: list[Program]) -> Found | None:
        """Search over programs of one depth."""
        options = self.options
        shares = np.array([FIRST_SHARE if p.is_plain else 1.0 for p in programs])
        shares /= shares.sum()
        for iteration in range(options.skill_iterations):
            number = options.skill_samples * (1 if iteration else self._first_factor())
            counts = np.ceil(number * shares - 1e-9).astype(int)
            self._try(
                [(p, p.draw(int(n), self.rng)) for p, n in zip(programs, counts, strict=True) if n]
            )
            elites = self._elites(programs)
            if not elites.any():
                return None
            shares = (1 - SPREAD_SHARE) * elites / elites.sum() + SPREAD_SHARE / len(programs)
            for program, count in zip(programs, elites, strict=True):
                program.refit(max(KEPT, int(count)))
        return self._choose([p for p in programs if np.isfinite(p.least)])

    def _choose(self, programs: Sequence[Program]) -> Found:
        """Choose the best mean of a program's elites, or the best sample if it is clearly better.

        The best of many samples is partly the model's luckiest error; the means compare programs
        more fairly.
        """
        best = min(programs, key=lambda program: program.least)
        energy, params_P = best.least, best.params_BP[best.energies_B.argmin()]
        self._try([(program, program.mean_P[None]) for program in programs])
        steady = min(programs, key=lambda program: float(program.energies_B[-1]))
        mean_energy = float(steady.energies_B[-1])
        object_energy = self.options.energy == "object"
        slack = MEAN_SLACK_M if object_energy else MEAN_SLACK * energy
        if mean_energy <= energy + slack:
            return mean_energy, steady, steady.mean_P
        return energy, best, params_P

    def _first_factor(self) -> int:
        """Return how many times more samples the first iteration has."""
        return FIRST if self.problem.objects else FIRST_ANYWHERE

    def _elites(self, programs: Sequence[Program]) -> NDArray[np.int64]:
        """Return the number of elites of each program."""
        energies = np.concatenate([program.energies_B for program in programs])
        owner = np.repeat(np.arange(len(programs)), [len(p.energies_B) for p in programs])
        order = energies.argsort(kind="stable")[: self.options.skill_elites]
        return np.bincount(owner[order[np.isfinite(energies[order])]], minlength=len(programs))

    def _with_home(self, whole: Expansion) -> Expansion:
        return join(whole, go_home(whole.end))

    def _try(self, drawn: Sequence[tuple[Program, Array]]) -> None:
        """Imagine samples of several programs in one batch, and note their energies."""
        began = time.perf_counter()
        alone = [program.expand(params_BP) for program, params_BP in drawn]
        compared = alone if self.options.energy == "object" else map(self._with_home, alone)
        actions_BKA, lengths_B = _stack(list(compared))
        self.seconds["expand"] += time.perf_counter() - began
        energies_B = np.full(len(lengths_B), np.inf)
        fits = lengths_B <= self.problem.budget
        if fits.any():
            energies_B[fits] = self._energies(actions_BKA[fits], lengths_B[fits])
        start = 0
        for program, params_BP in drawn:
            prior_B = SURPRISE_COST * self.rest_energy * program.surprise(params_BP)
            program.note(params_BP, energies_B[start : start + len(params_BP)] + prior_B)
            start += len(params_BP)

    def _ends(self, actions_BKA: NDArray[np.float32], lengths_B: NDArray[np.int64]) -> Tensor:
        seen = self.problem.seen
        return self.imagination.ends(seen.z_1ND, seen.state_1S, actions_BKA, lengths_B)

    def _energies(self, actions_BKA: NDArray[np.float32], lengths_B: NDArray[np.int64]) -> Array:
        """Return the energies [B] of action sequences, with the cost of their actions."""
        began = time.perf_counter()
        z_BND = self._ends(actions_BKA, lengths_B)
        imagined = time.perf_counter()
        if self.options.energy != "object":
            energies_B = self.imagination.latent_energy(z_BND, self.problem.goal_1ND)
        else:
            energies_B = self.imagination.object_energy(z_BND, self.problem.goals or ())
        self.seconds["unroll"] += imagined - began
        self.seconds["energy"] += time.perf_counter() - imagined
        return energies_B + self.action_cost * lengths_B

    def _result(self, found: Found, programs: Sequence[Program]) -> SkillPlan:
        energy, program, params_P = found
        expansion = program.expand(params_P[None])
        whole = self._with_home(expansion) if self.options.energy != "object" else expansion
        return SkillPlan(
            best=self._candidate(program, params_P, energy, path=True),
            expansion=expansion,
            rest_energy=self.rest_energy,
            end_1ND=self._ends(whole.actions_BKA, whole.lengths_B),
            candidates=self._candidates(programs),
            seconds=self.seconds,
        )

    def _candidates(self, programs: Sequence[Program]) -> tuple[Candidate, ...]:
        rows = [(e, i, j) for i, p in enumerate(programs) for j, e in enumerate(p.energies_B)]
        ranked = sorted(row for row in rows if np.isfinite(row[0]))
        return tuple(
            self._candidate(programs[i], programs[i].params_BP[j], energy, path=rank < SHOWN)
            for rank, (energy, i, j) in enumerate(ranked)
        )

    def _candidate(
        self, program: Program, params_P: Array, energy: float, *, path: bool
    ) -> Candidate:
        path_m: tuple[tuple[float, float, float], ...] = ()
        if path:
            expansion = program.expand(params_P[None])
            steps_K3 = expansion.actions_BKA[0, : expansion.lengths_B[0], :3].astype(np.float64)
            places_K3 = self.problem.context.tcp_m + np.cumsum(steps_K3, axis=0)
            path_m = tuple((float(x), float(y), float(z)) for x, y, z in places_K3)
        return Candidate(
            skills=tuple(move.skill.name for move in program.moves),
            targets=tuple(move.target for move in program.moves),
            params=program.named(params_P),
            variants=tuple(move.variant for move in program.moves),
            energy=float(energy),
            path_m=path_m,
        )


def _stack(parts: Sequence[Expansion]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Stack expansions of different lengths into one zero-padded batch."""
    longest = max(part.actions_BKA.shape[1] for part in parts)
    padded = [
        np.pad(p.actions_BKA, ((0, 0), (0, longest - p.actions_BKA.shape[1]), (0, 0)))
        for p in parts
    ]
    return np.concatenate(padded), np.concatenate([part.lengths_B for part in parts])
