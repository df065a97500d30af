"""Planner settings of a log or of a plan server."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from planning.macro_options import MacroSearchOptions
from planning.planner_options import ELITE_SOLVERS, GoalPlannerOptions
from planning.skill_options import SkillOptions


def logged_planner(options: Mapping[str, Any]) -> GoalPlannerOptions:
    """Return the planner settings of a log; older logs hold them among the other options."""
    said = options.get("planner", options)
    known = {f.name for f in dataclasses.fields(GoalPlannerOptions)}
    values = {name: value for name, value in said.items() if name in known}
    if values.get("optimiser", "cem") not in ELITE_SOLVERS:
        values.pop("elites", None)
    if "skill_search" in values:
        values["skill_search"] = SkillOptions(**values["skill_search"])
    if "macro_search" in values:
        values["macro_search"] = MacroSearchOptions(**values["macro_search"])
    return GoalPlannerOptions(**values)
