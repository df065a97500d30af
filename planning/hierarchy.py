"""Plan on two levels: macro-actions toward the goal, then actions toward the first imagined end.

The slow search minimises the energy of the last of M imagined macro-actions. The tokens after the
first one are the sub-goal, and the fast search minimises the energy of the actions of one
macro-action with respect to it. Both are cross-entropy searches whose first samples are recorded
sequences: their codes, and those sequences whose codes are nearest to the chosen one. Source: HWM
(arXiv 2604.03208).

Shapes: B samples, Q stored sequences, M macro-actions, L actions of one, N tokens, D width, A
action, C code.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from planning.bounds import GRIPPER_DEAD_BAND, Bounds
from planning.energy import energy, step_energies
from planning.errors import PlanError
from planning.plan_cost import Tally
from planning.protocols import HierarchicalModel, Macro
from planning.ranges import between, check_fields
from planning.solvers.search import Plan, elite_update, not_finite

TURN_RAD = 0.15
"""Maximum planned rotation per action and axis [rad]."""
NOTHING_M = 0.003
"""Moves below this [m] that do not use the gripper are left out of a plan."""
MOMENTUM = 0.15
"""Momentum of mean and standard deviation of the samples, as in `planning.solvers.cem`."""


@dataclass(frozen=True, kw_only=True)
class HierarchyConfig:
    """Settings of both searches."""

    macro_steps: int = field(default=3, metadata=between(1, 64))
    """Number of macro-actions planned at the start of an episode; it falls with the actions that
    have been executed, to at least 1."""
    macro_samples: int = field(default=256, metadata=between(8, 100_000))
    """Number of macro plans per iteration."""
    macro_iterations: int = field(default=3, metadata=between(1, 1_000))
    """Number of iterations of the slow search."""
    macro_execute: int = field(default=4, metadata=between(1, 256))
    """Number of actions executed before planning again."""
    samples: int = field(default=150, metadata=between(2, 1_000_000))
    """Number of action sequences per iteration of the fast search."""
    iterations: int = field(default=4, metadata=between(1, 10_000))
    """Number of iterations of the fast search."""
    num_elites: int = field(default=12, metadata=between(2, 1_000_000))
    """Number of best samples of both searches from which the next ones are drawn."""
    chunk: int = field(default=1024, metadata=between(1, 1_000_000))
    """Number of samples evaluated at once."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Queue:
    """What remains of a plan between two looks."""

    goal_1ND: Tensor
    """Goal of the plan."""
    actions_KA: Tensor
    """Actions that remain to be executed without a new plan."""
    energy: float
    """Energy of the imagined end of the macro plan."""
    executed: int
    """Number of actions toward this goal so far."""


class Hierarchy:
    """Searches on two levels for a model with macro-actions.

    Args:
        model: World model.
        config: Settings.

    Raises:
        PlanError: The model has no macro-actions.
    """

    def __init__(self, model: HierarchicalModel, config: HierarchyConfig) -> None:
        if model.macro is None:
            raise PlanError(
                "hierarchy=macro needs a model with macro-actions, which this one lacks: train "
                "them with `worldmodel train mode=macro encoder=MODEL`"
            )
        frames = model.macro.max_steps
        if config.macro_steps > frames:
            raise PlanError(
                f"macro_steps={config.macro_steps}; allowed: 1 to {frames} with this model"
            )
        self.model, self.config = model, config
        self.macro: Macro = model.macro
        self.codes_QC = self.macro.encode_actions(self.macro.sequences_QLA)

    def next_actions(
        self,
        z_1ND: Tensor,
        state_1S: Tensor,
        goal_1ND: Tensor,
        bounds: Bounds,
        generator: torch.Generator,
        queue: Queue | None,
    ) -> tuple[Plan, Queue]:
        """Return the actions that remain until the next look, and the queue after the first one.

        Raises:
            EnergyError: An imagined energy is not finite.
        """
        tally = Tally()
        if queue is None or not torch.equal(queue.goal_1ND, goal_1ND):
            queue = Queue(goal_1ND, state_1S.new_zeros(0, bounds.action_dim), float("nan"), 0)
        if not len(queue.actions_KA):
            sub_goal_1ND, near_QLA, found = self.sub_goal(z_1ND, queue, generator, tally)
            actions_LA = self.reach(
                z_1ND, state_1S, sub_goal_1ND, near_QLA, bounds, generator, tally
            )
            executed_KA = without_pauses(actions_LA)[: self.config.macro_execute]
            queue = replace(queue, actions_KA=executed_KA, energy=found)
        first = replace(queue, actions_KA=queue.actions_KA[1:], executed=queue.executed + 1)
        iterations = self.config.iterations if tally.calls else 0
        plan = Plan(queue.actions_KA, queue.energy, 0.0, iterations, tally.calls, tally.frames)
        return plan, first

    def sub_goal(
        self, z_1ND: Tensor, queue: Queue, generator: torch.Generator, tally: Tally
    ) -> tuple[Tensor, Tensor, float]:
        """Search for macro-actions toward the goal.

        Returns:
            The tokens after the first one, the recorded sequences whose codes are nearest to it,
            the nearest first, and the energy of the imagined end.
        """
        c, codes_QC = self.config, self.codes_QC
        steps = max(1, c.macro_steps - queue.executed // self.macro.span)
        picks_BM = torch.randint(1, len(codes_QC), (c.macro_samples, steps), generator=generator)
        picks_BM[0] = 0  # to do nothing
        samples_BMC = codes_QC[picks_BM.to(codes_QC.device)]
        mean_MC, std_MC = samples_BMC.mean(0), samples_BMC.std(0)
        best_MC, best = samples_BMC[0], float("inf")
        for iteration in range(1, c.macro_iterations + 1):
            if iteration > 1:
                noise = torch.randn(samples_BMC.shape, generator=generator).to(mean_MC)
                samples_BMC = (mean_MC + std_MC * noise).clamp(-1, 1)
                samples_BMC[0] = best_MC
            energies_B = self._macro_energies(z_1ND, samples_BMC, queue.goal_1ND, tally)
            require_finite(energies_B, iteration)
            least_E, elites_EMC, mean_MC, std_MC = elite_update(
                samples_BMC,
                energies_B,
                min(c.num_elites, c.macro_samples),
                mean_MC,
                std_MC,
                MOMENTUM,
            )
            if float(least_E[0]) < best:
                best, best_MC = float(least_E[0]), elites_EMC[0]
        sub_goal_1ND = self.macro.unroll(z_1ND, best_MC[None, :1])[:, 0]
        order_Q = (self.codes_QC - best_MC[0]).square().sum(-1).argsort()
        return sub_goal_1ND, self.macro.sequences_QLA[order_Q], best

    def _macro_energies(
        self, z_1ND: Tensor, samples_BMC: Tensor, goal_1ND: Tensor, tally: Tally
    ) -> Tensor:
        found = []
        for part_BMC in samples_BMC.split(self.config.chunk):
            tally.calls += 1
            tally.frames += part_BMC.shape[0] * part_BMC.shape[1]
            found.append(energy(self.macro.unroll(z_1ND, part_BMC)[:, -1], goal_1ND))
        return torch.cat(found)

    def reach(
        self,
        z_1ND: Tensor,
        state_1S: Tensor,
        sub_goal_1ND: Tensor,
        near_QLA: Tensor,
        bounds: Bounds,
        generator: torch.Generator,
        tally: Tally,
    ) -> Tensor:
        """Search for the actions [L, A] of one macro-action that end at the sub-goal.

        The first samples are the nearest recorded sequences, each half of the time with noise.
        """
        c = self.config
        samples_BLA = near_QLA[torch.arange(c.samples) % max(1, min(c.samples // 2, len(near_QLA)))]
        scale_A = near_QLA.std((0, 1)).clamp(min=1e-6)
        shape = samples_BLA.shape
        noise_BLA = torch.randn(shape, generator=generator).to(samples_BLA) * (0.2 * scale_A)
        noise_BLA[: len(noise_BLA) // 2] = 0.0
        samples_BLA = samples_BLA + noise_BLA
        mean_LA, std_LA = samples_BLA.mean(0), samples_BLA.std(0)
        best_LA, best = samples_BLA[0], float("inf")
        for iteration in range(1, c.iterations + 1):
            if iteration > 1:
                samples_BLA = mean_LA + std_LA * torch.randn(shape, generator=generator).to(mean_LA)
                samples_BLA[0] = best_LA
            inside_BLA = allowed(samples_BLA, bounds)
            energies_B = self._energies(z_1ND, state_1S, inside_BLA, sub_goal_1ND, tally)
            require_finite(energies_B, iteration)
            least_E, elites_ELA, mean_LA, std_LA = elite_update(
                inside_BLA, energies_B, min(c.num_elites, c.samples), mean_LA, std_LA, MOMENTUM
            )
            if float(least_E[0]) < best:
                best, best_LA = float(least_E[0]), elites_ELA[0]
        return best_LA

    def _energies(
        self, z_1ND: Tensor, state_1S: Tensor, actions_BLA: Tensor, goal_1ND: Tensor, tally: Tally
    ) -> Tensor:
        found = []
        for part_BLA in actions_BLA.split(self.config.chunk):
            tally.calls += 1
            tally.frames += part_BLA.shape[0] * part_BLA.shape[1]
            imagined_BLND = self.model.unroll(z_1ND, state_1S, part_BLA)
            found.append(step_energies(imagined_BLND, goal_1ND)[:, -1])
        return torch.cat(found)


def require_finite(energies_B: Tensor, iteration: int) -> None:
    """Reject energies that cannot be compared.

    Raises:
        EnergyError: One is not finite.
    """
    if not bool(torch.isfinite(energies_B).all()):
        raise not_finite(iteration)


def allowed(actions_BLA: Tensor, bounds: Bounds) -> Tensor:
    """Return actions inside the limits, with whole gripper commands.

    Rotations are clipped to `TURN_RAD`; an arm of four numbers has none.
    """
    moves_BL3 = bounds.inside(actions_BLA[..., :3])
    turns = actions_BLA[..., 3:-1].clamp(-TURN_RAD, TURN_RAD)
    grip = actions_BLA[..., -1:].clamp(-1.0, 1.0)
    if not bounds.gripper_free:
        grip = torch.zeros_like(grip)
    elif bounds.gripper == "ternary":
        grip = torch.where(grip.abs() > GRIPPER_DEAD_BAND, grip.sign(), torch.zeros_like(grip))
    return torch.cat([moves_BL3, turns, grip], dim=-1)


def without_pauses(actions_LA: Tensor) -> Tensor:
    """Leave out actions that do nothing, unless all do nothing.

    Two pauses in a row would tell the agent that it has settled at its goal.
    """
    acts_L = (actions_LA[:, :3].norm(dim=-1) > NOTHING_M) | (actions_LA[:, -1] != 0)
    return actions_LA[acts_L] if bool(acts_L.any()) else actions_LA[:1]
