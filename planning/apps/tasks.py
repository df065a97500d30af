"""Tasks of the table's scene: ours, or the user's own."""

from __future__ import annotations

from envs.tasks import Task, get_task
from planning.errors import PlanError
from planning.plugins import is_own, load


def find_task(name: str) -> Task:
    """Return the task that `task=` names; an empty name is reach.

    Raises:
        PlanError: a user's task cannot be loaded, is no task, or has the name of one of ours.
    """
    if not name or is_own("task", name):
        return get_task(name or "reach")
    found = load("task", name)
    if not isinstance(found, Task):
        raise PlanError(f"task={name} is no envs.tasks.Task. Make one of that class.")
    if is_own("task", found.name):
        raise PlanError(
            f"task={name} is called {found.name}, which is one of our own tasks. Give it another "
            "name."
        )
    return found
