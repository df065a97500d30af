"""Options of planning on two levels; imports neither torch nor NumPy, so that `--help` is fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from planning.errors import PlanError
from planning.ranges import between, check_fields


@dataclass(frozen=True, kw_only=True)
class MacroSearchOptions:
    """Search over macro-actions, whose first imagined end is the sub-goal of the actions."""

    hierarchy: Literal["none", "macro"] = "none"
    """Plan actions toward the goal (none), or toward a sub-goal from a search over macro-actions
    (macro), which needs a model of `worldmodel train mode=macro`. Then samples, iterations and
    elites are those of the search toward the sub-goal."""
    macro_steps: int = field(default=3, metadata=between(1, 64))
    """Number of macro-actions planned at the start of an episode; it falls with the actions that
    have been executed, to at least 1."""
    macro_samples: int = field(default=256, metadata=between(8, 100_000))
    """Number of macro plans evaluated per iteration."""
    macro_iterations: int = field(default=3, metadata=between(1, 1_000))
    """Number of iterations of the search over macro-actions."""
    macro_execute: int = field(default=4, metadata=between(1, 256))
    """Maximum number of actions executed before planning again."""

    def __post_init__(self) -> None:
        check_fields(self)
        given = [self.macro_steps, self.macro_samples, self.macro_iterations, self.macro_execute]
        if self.hierarchy == "none" and given != [3, 256, 3, 4]:
            raise PlanError(
                f"macro_steps={given[0]} macro_samples={given[1]} macro_iterations={given[2]} "
                f"macro_execute={given[3]}: these have no effect with hierarchy=none. Leave them "
                "out, or use hierarchy=macro."
            )

    @property
    def is_used(self) -> bool:
        """Whether to plan on two levels."""
        return self.hierarchy == "macro"
