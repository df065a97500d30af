"""Data collection policies that cover typical interactions with an object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from envs.expert import WayPoint, grasp_points, is_done, pick_place_points, push_points, walk
from envs.layout import ARM_HIGH_M, ARM_LOW_M, Clutter, draw_apart
from envs.mujoco_arm import MujocoArm
from envs.objects import SceneObject
from envs.shapes import nearest_grip_yaw, yaw_difference
from envs.tasks import Task
from robot.constants import MAX_STEP_M

Array = NDArray[np.float64]
Action = NDArray[np.float32]


class PlayEnv(Protocol):
    """What the policies need of an environment; `ArmEnv` has it."""

    @property
    def arm(self) -> MujocoArm:
        """The arm."""

    @property
    def items(self) -> Sequence[SceneObject]:
        """Objects of the scene; the policies act on the first."""

    @property
    def object_m(self) -> Array:
        """Position of the first object [3, m]."""

    @property
    def tcp_m(self) -> Array:
        """Position of the fingertips [3, m]."""

    @property
    def task(self) -> Task:
        """The task."""

    @property
    def clutter(self) -> Clutter:
        """Objects and walls beyond those of the task."""


KINDS = {"play": 0.5, "demonstration": 0.2, "reach": 0.3}
"""Probability of each kind of episode."""
DIRECT_SHARE = 0.35
"""Probability that a grasp skips the waypoint above the object. Many such grasps knock it over; a
model trained without them predicts that fingers pass through objects."""


def noisy(action: Action, rng: np.random.Generator, spread_m: float) -> Action:
    """Return an action with Gaussian noise on its change of position."""
    out = action.copy()
    out[:3] += rng.normal(0, spread_m, 3)
    return _clip(out)


def _clip(action: Action) -> Action:
    action[:3] = np.clip(action[:3], -MAX_STEP_M, MAX_STEP_M)
    return action


def random_burst(rng: np.random.Generator, steps: int) -> Iterator[Action]:
    """Yield random moves that keep their direction for a while, with rare gripper commands."""
    drift = rng.normal(0, 0.03, 3)
    for _ in range(steps):
        action = np.zeros(7, dtype=np.float32)
        drift = 0.6 * drift + rng.normal(0, 0.025, 3)
        action[:3] = drift
        if rng.random() < 0.12:
            action[6] = rng.choice([-1.0, 1.0])
        yield _clip(action)


def follow(
    env: PlayEnv, points: list[WayPoint], rng: np.random.Generator, spread_m: float
) -> Iterator[Action]:
    """Yield noisy actions along waypoints; the caller executes each one."""
    for point in points:
        for _ in range(12):
            action = walk(env.arm, point, tolerance_m=0.008)
            near = bool(np.abs(action[:3]).max() < 0.02 and action[5] == 0.0)
            yield noisy(action, rng, spread_m * (0.3 if near else 1.0))
            if is_done(env.arm, point, action) or (not point.gripper and near):
                break


def grip_yaw(env: PlayEnv) -> float | None:
    """Return the yaw that grips the first object, or None where objects are never turned."""
    if env.clutter.turned == 0.0 and not env.items[0].shape.has_yaw:
        return None
    item = env.items[0]
    return nearest_grip_yaw(item.yaw_rad, item.shape.yaw_period_rad, env.arm.yaw_rad)


def play(env: PlayEnv, rng: np.random.Generator) -> Iterator[Action]:
    """Yield play without end: grasp, lift, carry, release, push, and bursts of random actions."""
    while True:
        choice = rng.random()
        object_m = env.object_m
        if choice < 0.25:
            yield from random_burst(rng, int(rng.integers(2, 6)))
        elif choice < 0.35:
            target = draw_apart(rng, object_m, 0.05, 0.2)
            points = push_points(object_m, np.append(target, 0.02), 0.022, env.tcp_m)[:-1]
            yield from follow(env, points, rng, 0.003)
            yield np.array([0, 0, 0, 0, 0, 0, -1], dtype=np.float32)
        else:
            aim = object_m + np.append(rng.normal(0, 0.006 if choice < 0.85 else 0.03, 2), 0)
            points = grasp_points(aim, grip_yaw(env))
            if rng.random() < DIRECT_SHARE:
                points = points[1:]
            yield from follow(env, points, rng, 0.008)
            for _ in range(int(rng.integers(1, 4))):
                place = rng.uniform(ARM_LOW_M, ARM_HIGH_M)
                lift = WayPoint((*(float(v) for v in env.tcp_m[:2]), float(place[2])))
                carry = WayPoint(tuple(float(v) for v in place))
                yield from follow(env, [lift, carry] if rng.random() < 0.8 else [carry], rng, 0.01)
            if rng.random() < 0.7:
                low = (*(float(v) for v in env.tcp_m[:2]), float(rng.uniform(0.02, 0.05)))
                yield from follow(env, [WayPoint(low)], rng, 0.004)
            yield np.array([0, 0, 0, 0, 0, 0, -1], dtype=np.float32)
            if rng.random() < 0.5:
                yield np.array([0, 0, 0.06, 0, 0, 0, 0], dtype=np.float32)


def demonstrate(env: PlayEnv, rng: np.random.Generator) -> Iterator[Action]:
    """Yield pick-and-place demonstrations with a little noise, one after another."""
    while True:
        target = np.append(draw_apart(rng, env.object_m, 0.08, 0.3), 0.0)
        points = pick_place_points(env.object_m, target)
        points[0] = replace(points[0], yaw_rad=grip_yaw(env))
        yield from follow(env, points, rng, 0.006)
        yield np.array([0, 0, 0.06, 0, 0, 0, 0], dtype=np.float32)


def reach(env: PlayEnv, rng: np.random.Generator) -> Iterator[Action]:
    """Yield moves to random positions, low ones included, with occasional gripper commands."""
    while True:
        low = np.array([*ARM_LOW_M[:2] - 0.02, 0.015])
        place = rng.uniform(low, ARM_HIGH_M + 0.02)
        grip = float(rng.choice([-1.0, 0.0, 1.0], p=[0.25, 0.5, 0.25]))
        point = WayPoint(tuple(float(v) for v in place), grip)
        yield from follow(env, [point], rng, 0.012)
        if rng.random() < 0.3:
            yield from random_burst(rng, int(rng.integers(1, 5)))


POLICIES = {"play": play, "demonstration": demonstrate, "reach": reach}


PLAY_ATTEMPTS, PLAY_STEPS = 6, 40
"""Attempts to reach a goal by play, and the length of each."""
GOAL_MOVED_M, GOAL_TURNED_RAD = 0.06, np.radians(30)
"""Minimum change of the object's position, or of its yaw where the task asks for one."""


def play_to_goal(env: PlayEnv, rng: np.random.Generator) -> bool:
    """Play until the object rests elsewhere on the table and the gripper is open.

    Args:
        env: Environment with one object, which is moved.
        rng: Random generator.

    Returns:
        Whether such a state was reached; if not, the state is that of the last attempt's end.
    """
    saved, item = env.arm.snapshot(), env.items[0]
    start = item.pose
    for _ in range(PLAY_ATTEMPTS):
        env.arm.restore(saved)
        for action in islice(play(env, rng), PLAY_STEPS):
            env.arm.send(action)
            moved = float(np.linalg.norm(item.position_m[:2] - start[:2]))
            turned = yaw_difference(item.yaw_rad, float(start[3]), item.shape.yaw_period_rad)
            far = moved > GOAL_MOVED_M or (env.task.asks_yaw and turned > GOAL_TURNED_RAD)
            if far and item.is_resting and item.is_on_table and not env.arm.closed:
                return True
    return False
