"""Skills: short parametrised motions such as a push or a pick-and-place, expanded to actions.

A skill has parameters with ranges, and expands a batch of them to DROID actions from a context. The
planner searches over skills and their parameters; data collection draws them at random.

Shapes: B samples, P parameters, K actions, A action (7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from planning.errors import PlanError
from planning.plugins import is_reference, load, registered
from planning.skills.path import Array, Context, Expansion, Path, nearest_grip

TRAVEL_Z_M = 0.09
"""Default height at which the fingertips pass over objects [m]. Objects are up to 7 cm high, and
the fingers end 1 cm below the point between their pads."""
PUSH_Z_M = 0.02
"""Height of the fingertips while pushing [m]."""
GRIP_Z_M = 0.022
"""Height of the fingertips while closing [m]."""
PLACE_Z_M = 0.025
"""Height of the fingertips while opening [m]."""
LIFT_M = 0.07
"""Default height of a lift [m]."""
HIGHER_M = 0.11
"""How much higher a high lift is than the default [m]; it passes walls of up to 15 cm."""
CONTACT_M = 0.032
"""Distance between fingertips and the object's centre at first contact [m], for objects about
4.4 cm wide."""
RETREAT_M = 0.03
"""Distance that the fingers move back after a push before they rise [m]; rising in contact would
drag the object along."""
SHORTEST_M = 0.004
"""A continued push shorter than this only retreats, along the direction of the push before [m]."""
MARGIN_M = 0.02
"""The fingers rise before they travel if they are this far below the travel height [m]."""
HALF_TURN = float(np.pi / 2)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """Range and prior of one number of a skill."""

    name: str
    """Name of the parameter."""
    low: float
    """Minimum."""
    high: float
    """Maximum."""
    mean: float = 0.0
    """Default, and mean of the first samples of a search."""
    spread: float
    """Standard deviation of the first samples of a search."""
    unit: str = "m"
    """Unit: m or rad."""


Moves = Callable[[Path, dict[str, Array]], None]


@dataclass(frozen=True, kw_only=True)
class Skill:
    """A parametrised motion."""

    name: str
    """Name of the skill."""
    own: tuple[Parameter, ...]
    """Parameters apart from the start point."""
    moves: Moves
    """Adds the legs to a path, given the values [B] of each parameter and of the start point
    `x` and `y`."""
    needs_object: bool = True
    """Whether the skill starts at an object."""
    variants: tuple[Mapping[str, float], ...] = ({},)
    """Ways to carry out the skill that a search tries from the start, as changes of the parameters
    that fit the object; the first one changes nothing."""

    def parameters(self, context: Context) -> tuple[Parameter, ...]:
        """Return the parameters; the start point is among them if the object is unknown."""
        return self.own + START if self.needs_object and context.object_m is None else self.own

    def defaults(self, context: Context) -> Array:
        """Return the default of each parameter [P]."""
        return np.array([parameter.mean for parameter in self.parameters(context)])

    def expand(self, context: Context, params_BP: ArrayLike) -> Expansion:
        """Return the actions of a batch of parameters, which are clipped to their ranges.

        Args:
            context: Start of the skill; its arrays have no batch axis, or B rows.
            params_BP: Values in the order of `parameters(context)`.

        Raises:
            PlanError: Wrong number of parameters.
        """
        parameters = self.parameters(context)
        values_BP = np.atleast_2d(np.asarray(params_BP, dtype=np.float64))
        if values_BP.shape[1] != len(parameters):
            names = ", ".join(parameter.name for parameter in parameters) or "none"
            raise PlanError(
                f"Skill {self.name} got {values_BP.shape[1]} parameters; it has "
                f"{len(parameters)}: {names}"
            )
        values = {
            parameter.name: np.clip(values_BP[:, i], parameter.low, parameter.high)
            for i, parameter in enumerate(parameters)
        }
        path = Path(context, len(values_BP))
        if self.needs_object:
            if path.object_B2 is None:
                path.object_B2 = np.stack([values["x"], values["y"]], axis=1)
            values["x"], values["y"] = path.object_B2[:, 0], path.object_B2[:, 1]
        self.moves(path, values)
        return path.expansion()


def _displacement(p: dict[str, Array]) -> Array:
    return np.stack([p["vx"], p["vy"]], axis=1)


def _rise(path: Path, height_B: ArrayLike, grip: float) -> None:
    """Rise in place where the fingers are too low to travel."""
    low = path.place_B3[:, 2] < np.asarray(height_B) - MARGIN_M
    path.go(z_B=height_B, grip=grip, where_B=low)


def _over(path: Path, xy_B2: Array, height_B: ArrayLike, yaw_B: ArrayLike, grip: float) -> None:
    """Move above a point at the travel height, and turn on the way."""
    _rise(path, height_B, grip)
    path.go(xy_B2, height_B, yaw_B=yaw_B, grip=grip)


def _stroke(path: Path, length_B: Array, angle_B: Array, height_B: ArrayLike) -> None:
    """Push in a direction, retreat, and rise."""
    along_B2 = np.stack([np.cos(angle_B), np.sin(angle_B)], axis=1)
    path.contact_B = path.length_B
    path.go(path.place_B3[:, :2] + length_B[:, None] * along_B2)
    path.last_B = np.maximum(path.length_B - 1, path.contact_B)
    path.go(path.place_B3[:, :2] - RETREAT_M * along_B2)
    path.go(z_B=height_B)
    path.heading_B = angle_B


def _push(path: Path, p: dict[str, Array]) -> None:
    """Close the fingers, come down behind the object, push it by (vx, vy), retreat and rise."""
    assert path.object_B2 is not None
    v_B2 = _displacement(p)
    angle_B = np.arctan2(v_B2[:, 1], v_B2[:, 0])
    along_B2 = np.stack([np.cos(angle_B), np.sin(angle_B)], axis=1)
    across_B2 = np.stack([-along_B2[:, 1], along_B2[:, 0]], axis=1)
    start_B2 = path.object_B2 - p["gap"][:, None] * along_B2 + p["lateral"][:, None] * across_B2
    yaw_B = path.context.home_yaw_rad + p["contact_yaw"]
    _over(path, start_B2, p["height"], yaw_B, 1.0)
    path.go(z_B=PUSH_Z_M)
    length_B = np.maximum(p["gap"] - CONTACT_M + np.linalg.norm(v_B2, axis=1), 0.0)
    _stroke(path, length_B, angle_B, p["height"])
    path.object_B2 = path.object_B2 + v_B2


def _push_on(path: Path, p: dict[str, Array]) -> None:
    """Push by (vx, vy) from where the closed fingers are, retreat and rise."""
    path.go(z_B=PUSH_Z_M, grip=1.0)
    length_B = np.hypot(p["vx"], p["vy"])
    short = length_B < SHORTEST_M
    angle_B = np.where(short, path.heading_B, np.arctan2(p["vy"], p["vx"]))
    _stroke(path, np.where(short, 0.0, length_B), angle_B, p["height"])
    if path.object_B2 is not None:
        path.object_B2 = path.object_B2 + _displacement(p)


def _grip(path: Path, p: dict[str, Array], height_B: ArrayLike, turn_B: ArrayLike) -> None:
    """Open, come down at the object with the grip's yaw, and close."""
    assert path.object_B2 is not None
    yaw_B = path.context.home_yaw_rad + nearest_grip(p["grip_yaw"], turn_B)
    # The fingers close along their own y axis and centre the object there, so that the offset is
    # along their x axis.
    along_B2 = np.stack([np.cos(yaw_B), np.sin(yaw_B)], axis=1)
    start_B2 = path.object_B2 + p["offset"][:, None] * along_B2
    _over(path, start_B2, height_B, yaw_B, -1.0)
    path.go(z_B=GRIP_Z_M)
    path.contact_B = path.length_B
    path.go(grip=1.0)


def _release(path: Path, height_B: ArrayLike) -> None:
    path.go(grip=-1.0)
    path.go(z_B=height_B)


def _pick_place(path: Path, p: dict[str, Array]) -> None:
    """Grip, lift, carry by (vx, vy) while turning, lower, open and rise."""
    assert path.object_B2 is not None
    height_B = np.maximum(TRAVEL_Z_M, GRIP_Z_M + p["lift"])
    _grip(path, p, height_B, p["turn"])
    end_B = path.yaw_B + p["turn"]
    # Turning during the lift costs no actions.
    most_B = path.context.turn_rad * np.ceil(p["lift"] / path.context.step_m - 1e-6)
    path.go(z_B=GRIP_Z_M + p["lift"], yaw_B=path.yaw_B + np.clip(p["turn"], -most_B, most_B))
    path.go(path.place_B3[:, :2] + _displacement(p), yaw_B=end_B)
    path.go(z_B=PLACE_Z_M)
    path.last_B = path.length_B
    _release(path, height_B)
    path.object_B2 = path.object_B2 + _displacement(p)


def _regrasp(path: Path, p: dict[str, Array]) -> None:
    """Grip the object where it is, turn it on the table, open and rise."""
    _grip(path, p, TRAVEL_Z_M, p["turn"])
    path.go(yaw_B=path.yaw_B + p["turn"])
    path.last_B = path.length_B
    _release(path, TRAVEL_Z_M)


def _reach(path: Path, p: dict[str, Array]) -> None:
    """Move the fingertips to a point, with a yaw, and keep the gripper as it is."""
    goal_B2 = np.stack([p["goal_x"], p["goal_y"]], axis=1)
    path.go(goal_B2, p["goal_z"], yaw_B=path.context.home_yaw_rad + p["yaw"])


def _home(path: Path, p: dict[str, Array]) -> None:
    """Return to the start pose with the gripper open."""
    _rise(path, TRAVEL_Z_M, -1.0)
    home = path.context.home_tcp_m
    path.go(home[:2], home[2], yaw_B=path.context.home_yaw_rad, grip=-1.0)


def _moved(limit: float = 0.2, spread: float = 0.08) -> tuple[Parameter, ...]:
    return tuple(Parameter(name=n, low=-limit, high=limit, spread=spread) for n in ("vx", "vy"))


def _angle(name: str, spread: float, limit: float = HALF_TURN) -> Parameter:
    return Parameter(name=name, low=-limit, high=limit, spread=spread, unit="rad")


START = (
    Parameter(name="x", low=0.38, high=0.64, mean=0.51, spread=0.06),
    Parameter(name="y", low=-0.2, high=0.2, spread=0.1),
)
"""Position of the object, where it is not known."""
HEIGHT = Parameter(name="height", low=TRAVEL_Z_M, high=0.24, mean=TRAVEL_Z_M, spread=0.0)
OFFSET = Parameter(name="offset", low=-0.04, high=0.04, spread=0.006)

PUSH = Skill(
    name="push",
    own=(
        *_moved(),
        Parameter(name="lateral", low=-0.06, high=0.06, spread=0.012),
        Parameter(name="gap", low=0.045, high=0.1, mean=0.06, spread=0.005),
        _angle("contact_yaw", 0.0, 0.9),
        HEIGHT,
    ),
    moves=_push,
)
PUSH_ON = Skill(
    name="push_on", own=(*_moved(0.15, 0.05), HEIGHT), moves=_push_on, needs_object=False
)
PICK_PLACE = Skill(
    name="pick_place",
    own=(
        *_moved(0.3),
        OFFSET,
        _angle("grip_yaw", 0.3),
        _angle("turn", 0.3),
        Parameter(name="lift", low=0.06, high=0.22, mean=LIFT_M, spread=0.02),
    ),
    moves=_pick_place,
    # over a wall, with every side of the hand along it
    variants=({}, *({"lift": HIGHER_M, "grip_yaw": k * HALF_TURN / 2} for k in (0, 2, 1, -1))),
)
REGRASP = Skill(
    name="regrasp", own=(OFFSET, _angle("grip_yaw", 0.3), _angle("turn", 0.5)), moves=_regrasp
)
REACH = Skill(
    name="reach",
    own=(
        Parameter(name="goal_x", low=0.36, high=0.66, mean=0.51, spread=0.08),
        Parameter(name="goal_y", low=-0.22, high=0.22, spread=0.1),
        Parameter(name="goal_z", low=0.015, high=0.3, mean=0.16, spread=0.06),
        _angle("yaw", 0.0),
    ),
    moves=_reach,
    needs_object=False,
)
HOME = Skill(name="home", own=(), moves=_home, needs_object=False)

SKILLS = {skill.name: skill for skill in (PUSH, PUSH_ON, PICK_PLACE, REGRASP, REACH, HOME)}
"""All skills by name."""


def get_skill(name: str) -> Skill:
    """Look up a skill, ours or the user's `module:SKILL`.

    Raises:
        PlanError: Unknown name; the message lists the known ones. Or what it names is not a skill.
    """
    if name in SKILLS:
        return SKILLS[name]
    if not (is_reference(name) or name in registered("skill")):
        raise PlanError(f"Unknown skill {name!r}; known: {', '.join(SKILLS)}")
    found = load("skill", name)
    if not isinstance(found, Skill):
        raise PlanError(f"The skill {name} is not a planning.skills.Skill. Make one of that class.")
    return found
