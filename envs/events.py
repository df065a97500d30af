"""Impossible and harmless events in a recorded scene, for tests of surprise.

An episode is played once and then played again with the same actions and an event. The event
happens where the fingers are farthest from the object, so that they neither hold nor hide it.

Source: violation of expectation as in IntPhys (arXiv 1803.07616) and LeWorldModel.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from envs.appearance import SPLITS
from envs.arm_env import ArmEnv
from envs.contact_play import CONTACT_KINDS, RandomSkill, contact_actions
from envs.layout import Clutter
from envs.objects import Wall
from robot.pose import gripper_command

Array = NDArray[np.float64]
Event = Literal["none", "colour", "teleport", "vanish", "through_wall"]
EVENTS: tuple[Event, ...] = get_args(Event)
"""`none` and `colour` are harmless; no physics explains the others."""
JUMP_M = (0.12, 0.30)
"""Range of the distance of a teleport [m]."""
SPARED_M = 0.08
"""Minimum horizontal distance between a new place and the fingertips [m]."""
LOW_M, HIGH_M = np.array([0.40, -0.16]), np.array([0.62, 0.16])
"""Corners of the part of the table on which objects reappear [m]."""
OUT_OF_SIGHT_M = np.array([-1.5, 1.5])
"""Where vanished objects are [m]."""
STEPS_IN_WALL = 3
"""Control steps in which an object passes through the wall."""
FIRST, LAST = 4, 4
"""Number of frames before the earliest event, and after the latest."""
TRIES = 200
"""Draws of a place for a teleport, after which a far corner is taken."""


@dataclass(frozen=True, kw_only=True)
class EventEpisode:
    """Frames, states and actions of an episode with an event."""

    frames_THWC: NDArray[np.uint8]
    """Images of the camera."""
    states_TS: NDArray[np.float32]
    """Flange states [T, 7]."""
    actions_KA: NDArray[np.float32]
    """Actions [T - 1, 7] as sent; action t leads from frame t to t + 1."""
    event_frame: int
    """First frame that shows the event."""


class EventPlayer:
    """Plays episodes of contact-rich play on one object, with and without events.

    Args:
        shapes: Object shapes, of which each scene draws one.
        camera: Camera of the frames.
        image_size: Side of the frames [px].
        split: Appearance distribution.
        length: Number of frames of an episode.
        skill: Draws random skills.
    """

    def __init__(
        self,
        *,
        shapes: Sequence[str],
        camera: str,
        image_size: int,
        split: str,
        length: int,
        skill: RandomSkill,
    ) -> None:
        self.length, self.skill = length, skill

        def open_env(walls: float) -> ArmEnv:
            return ArmEnv(
                "pick_place",
                image_size=image_size,
                split=split,
                objects=shapes,
                cameras=(camera,),
                clutter=Clutter(walls=walls, turned=0.5),
            )

        self.camera = camera
        self._open, self._walled = open_env(0.0), open_env(1.0)
        self._record = functools.lru_cache(maxsize=2)(self._play_once)

    def play(self, seed: int, event: Event, *, walled: bool = False) -> EventEpisode:
        """Play the episode of a seed with an event.

        Args:
            seed: Seed of the scene, of the actions and of the event.
            event: The event; `none` for the episode as it is.
            walled: Whether the scene has a wall; `through_wall` always has.
        """
        env = self._walled if walled or event == "through_wall" else self._open
        actions, gaps_T = self._record(env, seed)
        last = self.length - LAST - (STEPS_IN_WALL if env is self._walled else 0)
        at = FIRST + int(np.argmax(gaps_T[FIRST:last]))
        return self._replay(env, seed, event, actions, at)

    def close(self) -> None:
        """Free the OpenGL contexts."""
        self._open.close()
        self._walled.close()

    def _play_once(self, env: ArmEnv, seed: int) -> tuple[list[NDArray[np.float32]], Array]:
        """Return the actions, and the distance between fingertips and object before each [m]."""
        rng = np.random.default_rng(seed)
        env.reset(seed=seed)
        kind = str(rng.choice(list(CONTACT_KINDS), p=list(CONTACT_KINDS.values())))
        source = contact_actions(kind, env, self.skill, rng, self.length - 1)
        actions, gaps = [], []
        for _ in range(self.length - 1):
            gaps.append(float(np.linalg.norm(env.tcp_m[:2] - env.object_m[:2])))
            actions.append(np.asarray(next(source), np.float32))
            env.arm.send(actions[-1])
        return actions, np.array(gaps)

    def _replay(
        self, env: ArmEnv, seed: int, event: Event, actions: list[NDArray[np.float32]], at: int
    ) -> EventEpisode:
        env.reset(seed=seed)
        change = _Change(env, event, np.random.default_rng([seed, EVENTS.index(event)]))
        frames, states = [], []
        for step in range(self.length):
            if step >= at:
                change.apply(step - at)
            frames.append(env.renderer.render(env.data, self.camera))
            states.append(env.arm.state().state.astype(np.float32))
            if step + 1 < self.length:
                env.arm.send(actions[step])
        return EventEpisode(
            frames_THWC=np.stack(frames),
            states_TS=np.stack(states),
            actions_KA=np.stack([[*a[:6], gripper_command(float(a[6]))] for a in actions]).astype(
                np.float32
            ),
            event_frame=at,
        )


class _Change:
    """One event on the first object of a scene, applied between physics and picture."""

    def __init__(self, env: ArmEnv, event: Event, rng: np.random.Generator) -> None:
        self.env, self.event, self.rng = env, event, rng
        self.path: list[Array] = []

    def apply(self, step: int) -> None:
        """Apply the event in the frame `step` frames after its first one."""
        item = self.env.items[0]
        if step == 0:
            if self.event == "colour":
                item.colour(self._other_colour())
            self.path = self._places(item.position_m[:2])
        if step < len(self.path):
            item.put(self.path[step], item.yaw_rad)

    def _places(self, here: Array) -> list[Array]:
        """Return where the object is put in the frames from the event on [m]."""
        if self.event == "teleport":
            return [self._free_place(here)]
        if self.event == "vanish":
            return [OUT_OF_SIGHT_M]
        if self.event == "through_wall":
            wall = self.env.layout.wall
            assert wall is not None
            end = mirrored(wall, here)
            return [here + (end - here) * k / STEPS_IN_WALL for k in range(1, STEPS_IN_WALL + 1)]
        return []

    def _free_place(self, here: Array) -> Array:
        for _ in range(TRIES):
            place = self.rng.uniform(LOW_M, HIGH_M)
            jump = float(np.linalg.norm(place - here))
            gap = float(np.linalg.norm(place - self.env.tcp_m[:2]))
            if JUMP_M[0] <= jump <= JUMP_M[1] and gap >= SPARED_M:
                return place
        return np.where(here < (LOW_M + HIGH_M) / 2, HIGH_M, LOW_M)

    def _other_colour(self) -> Array:
        """Draw a colour of training that differs clearly from the present one."""
        now = self.env.model.geom_rgba[self.env.items[0].geoms[0], :3]
        hues = np.array(SPLITS["train"].hues)
        return self.rng.permutation(hues[np.abs(hues - now).sum(-1) > 0.6])[0]


def mirrored(wall: Wall, place_m: Array) -> Array:
    """Return the mirror image of a place [2] on the other side of a wall [m]."""
    distance = float(wall.to_local(place_m)[0])
    normal = np.array([np.cos(wall.yaw_rad), np.sin(wall.yaw_rad)])
    return np.asarray(place_m[:2] - 2 * distance * normal)
