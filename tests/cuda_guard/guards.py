"""What the guard demands of a case's record; each demand is a function that asserts it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Row = dict[str, Any]
"""Record of a case, as `tests.cuda_guard.cases` prints it."""

STEP_WAITS: dict[str, str] = {}
"""Where a training step that is not logged may wait for the device, and why: nowhere."""

LOGGED_WAITS = {"copy to the host at worldmodel/training/distributed.py:mean": 1}
"""Where a logged step waits for the device, and how often: once, for its losses, the norm of its
gradients and the divergence check together."""

SENT = "at worldmodel/training/batches.py:sent"
STEP_UPLOADS = {
    f"pinned beside the step {SENT}": "the next batch",
    f"pinned {SENT}": "random colours",
}
"""Where a training step may copy to the device, and what: none makes the host wait. Copies beside
the step are on a stream of their own."""

NUM_PLANS, NUM_ITERATIONS = 2, 4
"""Number of recorded plans of a case that captures searches, and of iterations of a search."""
PLAN_WAITS = {
    "planning/planner.py:_plan": 1,
    "planning/solvers/device_cem.py:plan": 4,
    "planning/energy.py:_require_finite": 1,
    "planning/planner.py:_gripper_helps": 1,
}
"""Where a plan may wait for the device, and how often: for the state, once for each search, and
for the energies of the gripper."""

MOST_MOVED = {"moved_bf16": 26.1, "moved_autocast": 26.1}
"""Largest number of bytes that the elementwise operators of a layer read and write, as a multiple
of one bfloat16 activation (tokens x width)."""


def runs_to_its_end(name: str, row: Row) -> None:
    """Demand no error; an operation that mixes devices or streams is one."""
    assert not row["error"], f"{name}: {row['error']}"


def never_waits_in_a_capture(name: str, row: Row) -> None:
    """Demand that the host waits for nothing, and copies nothing, inside a captured iteration."""
    assert not row["captured"], (name, row["captured"])


def replays_later_plans(name: str, row: Row) -> None:
    """Demand that plans after the first capture no graph and wait where they may."""
    graphs = row["step"]["graphs"]
    assert graphs == {"replays": graphs["replays"]}, (name, graphs)
    for wait, count in row["step"]["waits"].items():
        place = wait.split(" at ")[1]
        assert count <= NUM_PLANS * PLAN_WAITS[place], (name, place)


def waits_in_steps_where_allowed(name: str, row: Row) -> None:
    """Demand that a training step waits, and copies to the device, only where it may."""
    step, logged = row["step"], name.endswith("logged")
    assert step["waits"].keys() <= (LOGGED_WAITS if logged else STEP_WAITS).keys(), name
    assert step["uploads"].keys() <= STEP_UPLOADS.keys(), name
    if logged:
        assert step["waits"] == LOGGED_WAITS


def frees_nothing_early(name: str, row: Row) -> None:
    """Demand that no tensor is freed while another stream uses it."""
    assert not row["step"] or not row["step"]["freed"].get("early"), name


def moves_few_bytes(name: str, row: Row) -> None:
    """Demand that elementwise operators read and write few bytes."""
    assert 0 < row["figures"]["activations"] <= MOST_MOVED[name], (name, row["figures"])


GUARDS: dict[str, Callable[[str, Row], None]] = {
    guard.__name__: guard
    for guard in (
        runs_to_its_end,
        never_waits_in_a_capture,
        replays_later_plans,
        waits_in_steps_where_allowed,
        frees_nothing_early,
        moves_few_bytes,
    )
}
"""Name -> guard."""
