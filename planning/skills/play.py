"""Random skills for data collection: pushes, picks, grasps and turns around known objects.

Shapes: K actions, A action (7).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from planning.errors import PlanError
from planning.skills.motions import (
    GRIP_Z_M,
    HALF_TURN,
    HOME,
    LIFT_M,
    PICK_PLACE,
    PUSH,
    REGRASP,
    Skill,
)
from planning.skills.path import STEP_M, Context, Path, join

Array = NDArray[np.float64]
Actions = NDArray[np.float32]

MIDDLE_M, HALF_M = np.array([0.51, 0.0]), np.array([0.11, 0.17])
"""Centre and half size of the area in which objects are kept [m]; an object outside it is moved
inwards."""
BAD_AIM_SHARE = 0.25
"""Probability that a skill misses its object by centimetres. A model trained without misses
imagines that every push and every grasp succeeds."""
GOOD_AIM_M, BAD_AIM_M = 0.004, 0.03
"""Standard deviation of the aim [m]."""
NOISE_M = (0.0, 0.002, 0.005)
"""Standard deviation of the noise on each action [m]; one is drawn for each skill."""
HOME_SHARE = 0.5
"""Probability that the arm returns to its start pose after a push or a pick."""
TARGET_SHARE, GRIP_SHARE, WRONG_SHARE = 0.8, 0.85, 0.3
"""Probability that a pick carries an object to its target, that it grips one along or across its
sides, and that it does so on the wrong side or lifts too little, where the scene has targets."""
WAYS_SHARE, PLAIN_SHARE = 0.6, 0.4
"""Probability that a pick toward a target takes one of the ways that a search tries
(`Skill.variants`), and that this is the plain one. A model has to tell these ways apart; picks with
any lift and grip hardly show it that a plain one fails at a wall."""
WAY_LIFT_M, WAY_GRIP_RAD = 0.012, 0.1
"""Standard deviation of the lift [m] and of the grip's yaw [rad] about those of a way."""
NEAR_M = 0.04
"""An object this close to its target is moved anywhere [m]."""
HIGH_SHARE = 0.3
"""Probability of a high lift or a high approach, as a wall requires."""


class Scene(Protocol):
    """What a random skill needs to know of a scene."""

    @property
    def tcp_m(self) -> Array:
        """Position of the fingertips [3], m."""

    @property
    def yaw_rad(self) -> float:
        """Yaw of the gripper about the vertical [rad], 0 where the fingers open along y."""

    @property
    def closed(self) -> bool:
        """Whether the gripper is closed."""

    @property
    def home_tcp_m(self) -> Array:
        """Position of the fingertips at the start of the episode [3], m."""

    @property
    def home_yaw_rad(self) -> float:
        """Yaw of the gripper at the start of the episode [rad]."""

    @property
    def objects(self) -> Sequence[Sequence[float]]:
        """Position and yaw (x, y, yaw) of each object [m, rad].

        The yaw is that of the long side: a gripper with the same yaw closes on the narrow sides.
        """

    @property
    def targets(self) -> Sequence[Sequence[float]]:
        """Target of each object in the same form; empty where the scene has none."""


KINDS = ("push", "pick", "grasp", "regrasp", "home")
"""Kinds of random skills. `grasp` closes on an object and lifts it a little; the robot's own pose
then tells where the object was."""


def random_skill(kind: str, scene: Scene, rng: np.random.Generator) -> Actions:
    """Return the actions [K, 7] of a random skill on a random object of the scene.

    Args:
        kind: One of `KINDS`.
        scene: Current poses of arm and objects.
        rng: Random generator.

    Raises:
        PlanError: Unknown kind, or no object in the scene.
    """
    if kind not in KINDS:
        raise PlanError(f"Unknown kind of skill {kind!r}; known: {', '.join(KINDS)}")
    if kind == "home":
        return _finish(_home(_context(scene)), rng)
    if not scene.objects:
        raise PlanError(f"Skill {kind!r} needs an object; the scene has none")
    index = int(rng.integers(len(scene.objects)))
    x, y, yaw = (float(v) for v in scene.objects[index])
    if kind == "grasp":  # always well aimed: its purpose is to find out where the object is
        return _finish(_grasp(_context(scene, (x, y)), yaw, rng), rng, noise_m=0.0)
    spread = BAD_AIM_M if rng.random() < BAD_AIM_SHARE else GOOD_AIM_M
    aim = np.array([x, y]) + rng.normal(0, spread, 2)
    context = _context(scene, (float(aim[0]), float(aim[1])))
    draw = {"push": _draw_push, "pick": _draw_pick, "regrasp": _draw_regrasp}[kind]
    skill, values = draw(np.array([x, y]), yaw - scene.home_yaw_rad, rng)
    if kind == "pick" and scene.targets:
        goal_x, goal_y, goal_yaw = (float(v) for v in scene.targets[index])
        away_m = goal_x - x, goal_y - y
        values |= _toward(away_m, yaw, goal_yaw - yaw, scene.home_yaw_rad, rng)
    actions_KA = _expand(skill, context, values, rng)
    if kind == "push" and rng.random() < 0.07:  # open fingers straddle the object, or knock it
        actions_KA[:, 6] = -np.abs(actions_KA[:, 6])
    return _finish(actions_KA, rng)


def _context(scene: Scene, object_m: tuple[float, float] | None = None) -> Context:
    return Context(
        tcp_m=np.asarray(scene.tcp_m, np.float64),
        yaw_rad=scene.yaw_rad,
        closed=scene.closed,
        home_tcp_m=np.asarray(scene.home_tcp_m, np.float64),
        home_yaw_rad=scene.home_yaw_rad,
        object_m=None if object_m is None else np.array(object_m),
    )


def _expand(
    skill: Skill, context: Context, values: dict[str, float], rng: np.random.Generator
) -> Actions:
    """Expand named values (defaults for the others), often followed by the return home."""
    params = [values.get(p.name, p.mean) for p in skill.parameters(context)]
    expansion = skill.expand(context, params)
    if rng.random() < HOME_SHARE:
        # A gripper that stays closed on the way home shows the model an empty or a carried grip.
        back = HOME.expand(expansion.end, np.zeros((1, 0)))
        if rng.random() < 0.5:
            back.actions_BKA[:, :, 6] = 0.0
        expansion = join(expansion, back)
    return expansion.actions_BKA[0, : int(expansion.lengths_B[0])]


def _home(context: Context) -> Actions:
    expansion = HOME.expand(context, np.zeros((1, 0)))
    return expansion.actions_BKA[0, : int(expansion.lengths_B[0])]


def _direction(object_m: Array, rng: np.random.Generator) -> float:
    """Draw a direction [rad]; an object at the edge of its area is mostly moved inwards."""
    inwards = MIDDLE_M - object_m
    if bool((np.abs(inwards) > HALF_M).any()):
        return float(np.arctan2(inwards[1], inwards[0]) + rng.normal(0, 0.6))
    return float(rng.uniform(-np.pi, np.pi))


def _height(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high)) if rng.random() < HIGH_SHARE else low


def _draw_push(
    object_m: Array, yaw: float, rng: np.random.Generator
) -> tuple[Skill, dict[str, float]]:
    angle = _direction(object_m, rng)
    if rng.random() < 0.3:  # push squarely against a side, which keeps the body's yaw
        side = yaw + HALF_TURN * np.round((angle - yaw) / HALF_TURN)
        angle = float(side + rng.normal(0, 0.1))
    length = float(rng.uniform(0.005, 0.16))
    lateral_m = rng.choice([0.006, 0.02, 0.04], p=[0.5, 0.25, 0.25])
    return PUSH, {
        "vx": length * np.cos(angle),
        "vy": length * np.sin(angle),
        "lateral": float(rng.normal(0, lateral_m)),
        "gap": float(rng.uniform(0.045, 0.09)),
        "contact_yaw": float(rng.normal(0, 0.4)) if rng.random() < 0.25 else 0.0,
        "height": _height(rng, 0.09, 0.2),
    }


def _grip_yaw(yaw: float, rng: np.random.Generator) -> float:
    """Draw a grip yaw: mostly about the object's, sometimes the start pose's or any."""
    choice = rng.random()
    if choice < 0.6:
        return _fold(yaw + rng.normal(0, 0.15))
    return 0.0 if choice < 0.85 else float(rng.uniform(-HALF_TURN, HALF_TURN))


def _fold(yaw: float) -> float:
    """Return the equivalent yaw of a parallel gripper within +-pi/2."""
    return float(yaw - np.pi * np.round(yaw / np.pi))


def _draw_pick(
    object_m: Array, yaw: float, rng: np.random.Generator
) -> tuple[Skill, dict[str, float]]:
    angle, length = _direction(object_m, rng), float(rng.uniform(0.02, 0.24))
    v_2 = np.array([np.cos(angle), np.sin(angle)]) * length
    v_2 = np.clip(object_m + v_2, MIDDLE_M - 1.2 * HALF_M, MIDDLE_M + 1.2 * HALF_M) - object_m
    return PICK_PLACE, {
        "vx": float(v_2[0]),
        "vy": float(v_2[1]),
        "offset": float(rng.normal(0, rng.choice([0.004, 0.02]))),
        "grip_yaw": _grip_yaw(yaw, rng),
        "turn": float(rng.uniform(-HALF_TURN, HALF_TURN)) if rng.random() < 0.5 else 0.0,
        "lift": _height(rng, 0.07, 0.2),
    }


def _toward(
    away_m: tuple[float, float], yaw: float, turn: float, home_rad: float, rng: np.random.Generator
) -> dict[str, float]:
    """Draw the parameters of a pick that differ where the object has a target.

    What decides beside a wall across the way is the height of the lift, and that the wide side of
    the hand is along the wall; about a third of the picks have each of them wrong. Most picks take
    the ways that a search tries.
    """
    if rng.random() < WAYS_SHARE:
        values = _way(_fold(yaw - home_rad) if rng.random() < 0.5 else 0.0, rng)
    else:
        values = _any_way(away_m, yaw, home_rad, rng)
    if np.hypot(*away_m) > NEAR_M and rng.random() < TARGET_SHARE:
        spread_m = rng.choice([0.008, 0.03])
        values["vx"], values["vy"] = (float(v + rng.normal(0, spread_m)) for v in away_m)
        values["turn"] = _fold(turn) + float(rng.normal(0, 0.1))
    return values


def _way(grip_yaw: float, rng: np.random.Generator) -> dict[str, float]:
    """Draw lift and grip near one of the ways that a search tries, from a grip's yaw [rad]."""
    plain, *others = PICK_PLACE.variants
    way = plain if rng.random() < PLAIN_SHARE else others[rng.integers(len(others))]
    grip_yaw += way.get("grip_yaw", 0.0) + rng.normal(0, WAY_GRIP_RAD)
    lift = LIFT_M + way.get("lift", 0.0) + rng.normal(0, WAY_LIFT_M)
    return {"lift": float(lift), "grip_yaw": _fold(float(grip_yaw))}


def _any_way(
    away_m: tuple[float, float], yaw: float, home_rad: float, rng: np.random.Generator
) -> dict[str, float]:
    """Draw any lift, and mostly a grip along or across the object's sides."""
    low, high = (0.07, 0.13) if rng.random() < WRONG_SHARE else (0.13, 0.22)
    values = {"lift": float(rng.uniform(low, high))}
    if rng.random() < GRIP_SHARE:
        way = np.arctan2(away_m[1], away_m[0])
        side = yaw + HALF_TURN * np.round((way - yaw) / HALF_TURN)
        side += HALF_TURN * float(rng.random() < WRONG_SHARE)
        values["grip_yaw"] = _fold(float(side - home_rad + rng.normal(0, 0.15)))
    return values


def _draw_regrasp(
    object_m: Array, yaw: float, rng: np.random.Generator
) -> tuple[Skill, dict[str, float]]:
    return REGRASP, {
        "offset": float(rng.normal(0, 0.008)),
        "grip_yaw": _grip_yaw(yaw, rng),
        "turn": float(rng.uniform(-HALF_TURN, HALF_TURN)),
    }


def _grasp(context: Context, yaw: float, rng: np.random.Generator) -> Actions:
    """Return a well aimed grasp, with the gripper's yaw along the object's, and a small lift."""
    path = Path(context, 1)
    low = path.place_B3[:, 2] < 0.07
    path.go(z_B=0.09, grip=-1.0, where_B=low)
    grip_yaw = context.home_yaw_rad + _fold(yaw - context.home_yaw_rad)
    path.go(context.object_m, 0.09, yaw_B=grip_yaw, grip=-1.0)
    path.go(z_B=GRIP_Z_M)
    path.go(grip=1.0)
    path.go(z_B=GRIP_Z_M + float(rng.uniform(0.03, 0.07)))
    return path.actions()[0, : int(path.length_B[0])]


def _finish(actions_KA: Actions, rng: np.random.Generator, noise_m: float | None = None) -> Actions:
    """Add noise to the moves of a skill, within the limit of an action."""
    spread = float(rng.choice(NOISE_M)) if noise_m is None else noise_m
    moving = np.abs(actions_KA[:, :3]).max(axis=1, initial=0.0) > 0
    noise = rng.normal(0, spread, (len(actions_KA), 3)) * moving[:, None]
    actions_KA[:, :3] = np.clip(actions_KA[:, :3] + noise, -STEP_M, STEP_M)
    return actions_KA
