"""`worldmodel plugins`: list implementations, where they come from, and which cannot be loaded."""

from __future__ import annotations

from dataclasses import dataclass, field

from planning.errors import PlanError
from planning.plugins import KINDS, group_of, problem_of, registered
from planning.ranges import check_fields


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `worldmodel plugins`."""

    kinds: list[str] = field(default_factory=list)
    """Kinds to list (empty: all)."""

    def __post_init__(self) -> None:
        check_fields(self)
        for kind in self.kinds:
            if kind not in KINDS:
                raise PlanError(
                    f"kinds={kind!r} is not available. Choose one of: {', '.join(KINDS)}."
                )


def run(options: Options) -> int:
    """Load every registered implementation, and print where it comes from.

    Returns:
        0, or 1 if an implementation cannot be loaded.
    """
    problems = []
    for kind in options.kinds or KINDS:
        print(f"{kind}: {KINDS[kind].option}; entry points {group_of(kind)}")
        for plugin in registered(kind).values():
            problem = problem_of(plugin)
            state = "BROKEN" if problem else "ok"
            print(f"  {plugin.name:16s} {state:7s} {plugin.target} ({plugin.source})")
            problems += [problem] if problem else []
    print("Your own needs no registration: give the option module:Class.")
    for problem in problems:
        print(f"BROKEN: {problem}")
    return 1 if problems else 0
