"""Options of a planner: search settings, and what is planned; see `planning.options`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from planning.errors import PlanError
from planning.macro_options import MacroSearchOptions
from planning.ranges import between, changed_fields, check_fields, plugin
from planning.skill_options import SkillOptions

Method = Literal["auto", "actions", "skills"]
ONE_GOAL = "one_goal_labelled"
"""Embedded model for plans of skills; it learned from labels of the simulator."""
SIGHT_DEG = 45.0
"""Direction in which that head's errors are largest [deg]; `benchmarks/aim.py` measures it."""
DEFAULT_ELITES = 12
ELITE_SOLVERS = ("cem", "icem")


@dataclass(frozen=True, kw_only=True)
class PlannerOptions:
    """Search settings of the planner."""

    optimiser: str = field(default="cem", metadata=plugin("optimiser"))
    """Search algorithm; cem is the published one."""
    samples: int = field(default=150, metadata=between(1, 1_000_000))
    """Number of plans evaluated per iteration."""
    iterations: int = field(default=4, metadata=between(1, 10_000))
    """Maximum number of iterations per search."""
    elites: int | None = field(default=None, metadata=between(2, 1_000_000))
    """Number of best plans that cem and icem keep (default: 12, or all samples if fewer)."""
    horizon: int = field(default=1, metadata=between(1, 16))
    """Planning horizon, in actions."""
    stretch: int = field(default=3, metadata=between(1, 16))
    """Maximum number of equal steps planned toward a goal beyond the reach of one step."""
    approach_slope: float = field(default=1.0, metadata=between(0, 100))
    """Height above the goal per lateral distance during the descent (0: straight lines)."""
    gate_m: float = field(default=0.025, metadata=between(0, 10, "m"))
    """Plan the gripper only if the planned move is shorter than this (0: always)."""
    norm: Literal["l1", "l2"] = "l1"
    """Distance between latents; l1 is the published one."""
    over: Literal["final", "sum"] = "final"
    """Compare the goal with the final predicted step, or average over all predicted steps."""
    history: int = field(default=1, metadata=between(1, 2))
    """Number of context frames: 1 is the current frame only, 2 includes the previous one."""
    warm_start: bool = False
    """Start each search from the remainder of the previous plan."""
    min_spread_m: float = field(default=0.0, metadata=between(0, 1, "m"))
    """Stop a search once the spread of its best plans is below this (0: never)."""
    deadline_s: float = field(default=0.0, metadata=between(0, 3600, "s"))
    """Stop a search after this time and use the best plan so far (0: never)."""
    memory_gb: float = field(default=4.0, metadata=between(0, 10_000, "GB"))
    """Memory for plans evaluated at once; at least one plan is evaluated."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.optimiser in ELITE_SOLVERS and self.samples < 2:
            raise PlanError(
                f"samples={self.samples} is not enough for {self.optimiser}. Use at least 2."
            )
        if self.elites is None:
            return
        if self.optimiser not in ELITE_SOLVERS:
            raise PlanError(
                f"elites={self.elites} has no effect with optimiser={self.optimiser}. Leave it "
                f"out, or choose one of: {', '.join(ELITE_SOLVERS)}."
            )
        if self.elites > self.samples:
            raise PlanError(
                f"elites={self.elites} is more than samples={self.samples}. Lower elites or raise "
                "samples."
            )

    @property
    def num_elites(self) -> int:
        """Number of elites, with the default resolved."""
        return min(DEFAULT_ELITES, self.samples) if self.elites is None else self.elites

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a summary or log, with the default number of elites resolved."""
        names = [item.name for item in dataclasses.fields(PlannerOptions)]
        return {name: getattr(self, name) for name in names} | {"elites": self.num_elites}


def require_single_plans(planner: PlannerOptions, command: str) -> None:
    """Reject settings that need a previous plan in a command whose plans are independent.

    Raises:
        PlanError: `history` or `warm_start` is set.
    """
    if planner.history != 1 or planner.warm_start:
        raise PlanError(
            f"history={planner.history} warm_start={planner.warm_start}: `worldmodel {command}` "
            "makes independent plans. Use history=1 warm_start=false."
        )


@dataclass(frozen=True, kw_only=True)
class GoalPlannerOptions(PlannerOptions):
    """Settings of a planner that plans single actions or skills."""

    method: Method = "auto"
    """What to plan: actions, skills, or auto (skills for a single goal image of moved objects that
    shows the arm back at its start, else actions)."""
    skill_search: SkillOptions = field(default_factory=SkillOptions)
    """Search over skills."""
    macro_search: MacroSearchOptions = field(default_factory=MacroSearchOptions)
    """Search over macro-actions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method == "skills":
            unused = changed_fields(self, PlannerOptions) + changed_fields(self.macro_search)
            self._refuse(unused, "actions")
        if self.macro_search.is_used:
            self._check_macro()
        if self.method == "actions":
            self._refuse(changed_fields(self.skill_search), "skills")

    def _check_macro(self) -> None:
        """Reject settings that a search on two levels would ignore."""
        searched = ("samples", "iterations", "elites", "memory_gb")
        changed = changed_fields(self, PlannerOptions) + changed_fields(self.skill_search)
        unused = [x for x in changed if x.split("=")[0] not in searched]
        if unused:
            raise PlanError(
                f"{' '.join(unused)} has no effect with hierarchy=macro. Leave it out, or use "
                "hierarchy=none."
            )

    def _refuse(self, unused: list[str], other: str) -> None:
        if unused:
            recipes = " (planner=fast and published set them)" if other == "actions" else ""
            raise PlanError(
                f"{' '.join(unused)} has no effect with method={self.method}{recipes}. Leave it "
                f"out, or use method={other}."
            )

    def resolved(self, *, one_image: bool) -> GoalPlannerOptions:
        """Return the options with `method=auto` resolved.

        Args:
            one_image: Whether the goal is a single image of moved objects with the arm at its
                start.

        Raises:
            PlanError: An option has no effect with that method.
        """
        if self.method != "auto":
            return self
        skills = one_image and not self.macro_search.is_used
        return dataclasses.replace(self, method="skills" if skills else "actions")

    def model_or(self, model: str) -> str:
        """Return a model's name, or for an empty one the embedded model for the resolved method."""
        return model or (ONE_GOAL if self.method == "skills" else "default")

    def for_model(self, model: str) -> GoalPlannerOptions:
        """Return the options with what suits a model: the line of sight of its training."""
        if self.method != "skills":
            return self
        search = self.skill_search
        if search.sight_deg is None and model == ONE_GOAL:
            search = dataclasses.replace(search, sight_deg=SIGHT_DEG)
        return dataclasses.replace(self, skill_search=search)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a summary or log: the settings of the method in use."""
        if self.method == "skills":
            return {"method": self.method, "skill_search": dataclasses.asdict(self.skill_search)}
        macro = dataclasses.asdict(self.macro_search) if self.macro_search.is_used else None
        found = super().as_dict() | {"method": self.method}
        return found if macro is None else found | {"macro_search": macro}
