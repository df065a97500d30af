"""Decisions as messages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from planning.errors import PlanError
from planning.protocols import Decision
from planning.remote.fields import as_number, as_numbers, as_whole, get, number_or_nan
from planning.remote.wire import Message
from planning.skill_record import Candidate, SkillRecord
from planning.states import POSE_DIM, POSITION_DIM

MAX_GOALS = 64


def decision_message(decision: Decision) -> Message:
    """Return a decision as a message, without imagined tokens."""
    record = decision.skills
    skills = None if record is None else dataclasses.replace(record, imagined_ND=None)
    return {
        "action": np.asarray(decision.action, dtype=np.float32),
        "sub_goal": decision.sub_goal,
        "energy": float(decision.energy),
        "imagined": float(decision.imagined),
        "seconds": {name: float(value) for name, value in decision.seconds.items()},
        "plan": _plan(decision),
        "skills": None if skills is None else _plain(dataclasses.asdict(skills)),
    }


def _plan(decision: Decision) -> NDArray[np.float64]:
    """Return the planned actions [K, A] of the model, which has fewer numbers without angles."""
    plan = np.asarray(decision.plan, dtype=np.float64)
    return plan if plan.size else plan.reshape(0, len(decision.action))


def _plain(value: object) -> object:
    """Return a value with the numbers of NumPy as Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


def read_decision(message: Message, num_goals: int) -> Decision:
    """Return the decision of a message.

    Raises:
        PlanError: The message holds no decision, or its numbers are not finite.
    """
    action_A = as_numbers(get(message, "action"), "action", POSE_DIM)
    seconds = get(message, "seconds")
    if not isinstance(seconds, dict):
        raise PlanError("The server's answer holds no times")
    plan = get(message, "plan")
    rows, columns = plan.shape if isinstance(plan, np.ndarray) and plan.ndim == 2 else (0, 0)
    size = POSITION_DIM if columns == POSITION_DIM else POSE_DIM  # of the model's actions
    return Decision(
        action=action_A.astype(np.float32),
        sub_goal=as_whole(get(message, "sub_goal"), "sub_goal", 0, num_goals - 1),
        energy=number_or_nan(message.get("energy")),
        imagined=number_or_nan(message.get("imagined")),
        seconds={
            name: as_number(seconds.get(name), f"seconds of {name}", 0, 1e6)
            for name in ("encode", "plan")
        },
        plan=as_numbers(plan, "plan", rows, size).tolist(),
        skills=_read_record(message.get("skills")),
    )


def _read_record(found: object) -> SkillRecord | None:
    """Return the record of a decision about skills, which only the report shows."""
    if found is None:
        return None
    try:
        assert isinstance(found, dict)
        chosen = found["chosen"]
        return SkillRecord(
            **{
                **found,
                "chosen": None if chosen is None else _candidate(chosen),
                "candidates": [_candidate(row) for row in found["candidates"]],
                "objects": [tuple(pose) for pose in found["objects"]],
                "goals": [tuple(pose) for pose in found["goals"]],
            }
        )
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise PlanError(f"The server's record of its skills cannot be read ({error!r})") from error


def _candidate(row: Mapping[str, object]) -> Candidate:
    path_m = row["path_m"]
    assert isinstance(path_m, list)
    return Candidate(
        **{  # type: ignore[arg-type]
            **row,
            "skills": tuple(row["skills"]),  # type: ignore[arg-type]
            "targets": tuple(row["targets"]),  # type: ignore[arg-type]
            "params": tuple(row["params"]),  # type: ignore[arg-type]
            "variants": tuple(row["variants"]),  # type: ignore[arg-type]
            "path_m": tuple(tuple(place) for place in path_m),
        }
    )
