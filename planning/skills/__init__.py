"""Skills: motions, search over them by imagination, and the agent that executes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planning.skills.motions import (
        HOME,
        PICK_PLACE,
        PUSH,
        PUSH_ON,
        REACH,
        REGRASP,
        Skill,
        get_skill,
    )

__all__ = ["HOME", "PICK_PLACE", "PUSH", "PUSH_ON", "REACH", "REGRASP", "Skill", "get_skill"]


def __getattr__(name: str) -> object:
    """Load a skill when it is used: options are read without PyTorch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from planning.skills import motions

    return getattr(motions, name)
