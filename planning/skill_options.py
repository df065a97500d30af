"""Options of planning with skills; imports neither torch nor NumPy, so that `--help` is fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from planning.errors import PlanError
from planning.ranges import between, check_fields, plugin

SkillEnergy = Literal["auto", "latent", "object"]
SkillStart = Literal["located", "anywhere"]
SkillLook = Literal["end", "stroke"]


@dataclass(frozen=True, kw_only=True)
class SkillOptions:
    """Search over skills, their parameters and their order."""

    skills: list[str] = field(default_factory=lambda: ["pick_place"], metadata=plugin("skill"))
    """Skills to choose from."""
    skill_samples: int = field(default=32, metadata=between(8, 100_000))
    """Number of skills imagined per iteration; the first iteration imagines twice as many,
    or six times if it has to search over the table."""
    skill_iterations: int = field(default=2, metadata=between(1, 1_000))
    """Number of iterations for each depth."""
    skill_elites: int = field(default=8, metadata=between(2, 10_000))
    """Number of best skills from which the next iteration is drawn."""
    depth: int = field(default=1, metadata=between(1, 3))
    """Maximum number of skills planned in a row."""
    energy: SkillEnergy = "auto"
    """Compare the goal with the imagined tokens after the return home (latent), or with the object
    poses decoded at the end of the skill (object); auto is object for models with an object
    head."""
    start: SkillStart = "located"
    """Start skills at the objects decoded from the image (located), or search over the table
    (anywhere); models without an object head always search."""
    look: SkillLook = "end"
    """Observe again at the end of each skill, or also before the last action of each push
    (stroke)."""
    stop_m: float = field(default=0.02, metadata=between(0, 1, "m"))
    """Return home once every decoded object is this close to its goal (0: never)."""
    sight_deg: float | None = field(default=None, metadata=between(-180, 180, "deg"))
    """Direction of the camera's line of sight over the table, from the x axis of the robot's base.
    Tall objects (decoded at 2.65 cm and more) without a certain yaw count as round and are gripped
    along it, where their decoded position is least certain (null: 45 with one_goal_labelled; with
    other models all objects are gripped as low ones are)."""
    roll_out: int = field(default=14, metadata=between(1, 64))
    """Number of imagined steps after which a prediction restarts from its last frame alone."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.skills:
            raise PlanError("skills=[] is empty. Name at least one of: push, pick_place, regrasp.")
        if self.skill_elites > self.skill_samples:
            raise PlanError(
                f"skill_elites={self.skill_elites} is more than "
                f"skill_samples={self.skill_samples}. Lower skill_elites or raise skill_samples."
            )
