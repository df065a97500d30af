"""Contact-rich data collection: random skills around the objects, from an injected source.

Every push episode ends in a grasp and a little lift, so that the robot's own state tells afterwards
where the object was.

Shapes: K actions, M objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from envs.arm_env import ArmEnv
from envs.expert import STEP_M, TURN_RAD, WayPoint, grasp_points, is_done, walk
from envs.mujoco_arm import BOX_HIGH_M, BOX_LOW_M
from envs.play import POLICIES, random_burst
from envs.shapes import nearest_grip_yaw, nearest_yaw
from envs.tasks import ONE_IMAGE

Array = NDArray[np.float64]
Action = NDArray[np.float32]
SkillKind = Literal["push", "pick"]

CONTACT_KINDS = {"push": 0.45, "pick": 0.25, "play": 0.15, "demonstration": 0.05, "reach": 0.10}
"""Probability of each kind of episode of the mix `contact`."""
MIXES = {"contact": CONTACT_KINDS, "carry": {"pick": 0.8, "push": 0.2}, "push": {"push": 1.0}}
"""Mixes of random skills: the probability of each kind of episode."""
GRASP_ABOVE_M = 0.09
"""Height from which the last grasp descends [m]; higher than every object."""
MARGIN_STEPS = 4
"""Steps that a grasp may need beyond those of its straight lines."""
BURST_SHARE = 0.08
"""Probability of a few random actions before a skill."""


@dataclass(frozen=True, kw_only=True)
class SkillScene:
    """What a random skill may know of a scene: true poses of arm and objects."""

    tcp_m: Array
    """Position of the fingertips [3, m]."""
    yaw_rad: float
    """Yaw of the gripper [rad], 0 where the fingers open along y."""
    closed: bool
    """Whether the gripper was last commanded to close."""
    home_tcp_m: Array
    """Position of the fingertips at the start of the episode [3, m]."""
    home_yaw_rad: float
    """Yaw of the gripper at the start of the episode [rad]."""
    objects: Sequence[Sequence[float]]
    """Position [m] on the table and yaw [rad] of objects (x, y, yaw). A gripper with this yaw grips
    the object; of the equivalent yaws it is the nearest to the gripper's."""
    targets: Sequence[Sequence[float]] = ()
    """Target (x, y, yaw) of each object [m, rad]; empty where the scene has none."""


class RandomSkill(Protocol):
    """Draws a random skill; a picklable function, since workers receive it."""

    def __call__(self, kind: SkillKind, scene: SkillScene, rng: np.random.Generator) -> Action:
        """Return the actions [K, 7] of a skill on one of the scene's objects."""


class ContactEpisode:
    """Actions of one episode of random skills on one object of a scene.

    Args:
        env: Environment that the caller steps with each action.
        skill: Source of random skills.
        rng: Random generator.
        steps: Number of actions of the episode.
    """

    def __init__(
        self, env: ArmEnv, skill: RandomSkill, rng: np.random.Generator, steps: int
    ) -> None:
        self.env, self.skill, self.rng, self.left = env, skill, rng, steps
        self.index = int(rng.integers(len(env.items)))
        self.home_tcp_m, self.home_yaw_rad = env.tcp_m, env.arm.yaw_rad

    def scene(self) -> SkillScene:
        """Return what a skill may know now; its only object is the episode's."""
        env, item = self.env, self.env.items[self.index]
        x, y, _ = item.position_m
        return SkillScene(
            tcp_m=env.tcp_m,
            yaw_rad=env.arm.yaw_rad,
            closed=env.arm.closed,
            home_tcp_m=self.home_tcp_m,
            home_yaw_rad=self.home_yaw_rad,
            objects=[(float(x), float(y), self._grip_yaw())],
            targets=self._targets(),
        )

    def _targets(self) -> list[tuple[float, float, float]]:
        """Return the target of the episode's object, if its task says one."""
        env, layout = self.env, self.env.layout
        if env.task.name not in ONE_IMAGE or self.index >= env.task.num_moving:
            return []
        item, (x, y) = self.env.items[self.index], layout.targets_m[self.index]
        turn = layout.target_yaws_rad[self.index] - item.yaw_rad
        yaw = self._grip_yaw() + nearest_yaw(turn, item.shape.yaw_period_rad)
        return [(float(x), float(y), yaw)]

    def _grip_yaw(self) -> float:
        item = self.env.items[self.index]
        return nearest_grip_yaw(item.yaw_rad, item.shape.yaw_period_rad, self.env.arm.yaw_rad)

    def actions(self, kind: SkillKind) -> Iterator[Action]:
        """Yield the actions of an episode of pushes or of picks."""
        ends_in_grasp = kind == "push"
        while not (ends_in_grasp and self._must_grasp()):
            if self.rng.random() < BURST_SHARE:
                yield from self._take(random_burst(self.rng, int(self.rng.integers(1, 4))))
            for action in self._take(iter(self.skill(kind, self.scene(), self.rng))):
                yield action
                if ends_in_grasp and self._must_grasp():
                    break
        yield from self._take(self._grasp())
        while True:  # what is left after the lift: carry on in the air
            for action in random_burst(self.rng, 4):
                action[6] = 0.0
                action[2] = max(action[2], 0.0)
                yield action

    def _take(self, actions: Iterator[Action]) -> Iterator[Action]:
        for action in actions:
            self.left -= 1
            yield action

    def _grasp_points(self) -> list[WayPoint]:
        item = self.env.items[self.index]
        low = BOX_LOW_M - [0.0, 0.0, BOX_LOW_M[2]]
        aim = np.clip(item.position_m, low, BOX_HIGH_M)
        rise = WayPoint((*self.env.tcp_m[:2], max(self.env.tcp_m[2], GRASP_ABOVE_M)), -1.0)
        grasp = grasp_points(aim, self._grip_yaw(), GRASP_ABOVE_M)
        lift = WayPoint((*grasp[-1].tcp_m[:2], grasp[-1].tcp_m[2] + 0.06))
        return [rise, *grasp, lift]

    def _must_grasp(self) -> bool:
        """Whether the steps that are left are just enough for the grasp."""
        place, yaw, needed = self.env.tcp_m, self.env.arm.yaw_rad, MARGIN_STEPS
        for point in self._grasp_points():
            moves = np.abs(np.array(point.tcp_m) - place).max() / STEP_M
            turns = 0.0 if point.yaw_rad is None else abs(point.yaw_rad - yaw) / TURN_RAD
            needed += int(np.ceil(max(moves, turns) - 1e-6)) + (point.gripper > 0)
            place, yaw = np.array(point.tcp_m), point.yaw_rad or yaw
        return self.left <= needed

    def _grasp(self) -> Iterator[Action]:
        """Yield a grasp without noise and a little lift."""
        for point in self._grasp_points():
            for _ in range(12):
                action = walk(self.env.arm, point, tolerance_m=0.006)
                yield action
                if is_done(self.env.arm, point, action):
                    break


def contact_actions(
    kind: str, env: ArmEnv, skill: RandomSkill, rng: np.random.Generator, steps: int
) -> Iterator[Action]:
    """Return the actions of an episode of one of `CONTACT_KINDS`; the caller executes each one.

    Args:
        kind: Key of `CONTACT_KINDS`.
        env: Environment that the caller steps with each action.
        skill: Source of random skills.
        rng: Random generator.
        steps: Number of actions of the episode.
    """
    if kind == "push":
        return ContactEpisode(env, skill, rng, steps).actions("push")
    if kind == "pick":
        return ContactEpisode(env, skill, rng, steps).actions("pick")
    return POLICIES[kind](env, rng)
