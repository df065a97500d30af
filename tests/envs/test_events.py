"""Events of surprise tests: the same episode up to the event, and what changes in it."""

import numpy as np
import pytest

from envs.events import EVENTS, JUMP_M, STEPS_IN_WALL, EventPlayer, mirrored
from envs.objects import Wall
from planning.skills.play import random_skill

SEED = 5


@pytest.fixture(scope="module")
def player():
    found = EventPlayer(
        shapes=("cube",), camera="left", image_size=64, split="train", length=18, skill=random_skill
    )
    yield found
    found.close()


@pytest.mark.parametrize("event", EVENTS)
def test_only_the_event_differs(player, event):
    walled = event == "through_wall"
    plain = player.play(SEED, "none", walled=walled)
    found = player.play(SEED, event, walled=walled)
    at = found.event_frame
    assert 4 <= at < 14
    assert plain.event_frame == at
    np.testing.assert_array_equal(found.actions_KA, plain.actions_KA)
    np.testing.assert_array_equal(found.frames_THWC[:at], plain.frames_THWC[:at])
    np.testing.assert_array_equal(found.states_TS[: at + 1], plain.states_TS[: at + 1])
    differs = (found.frames_THWC[at] != plain.frames_THWC[at]).any()
    assert differs == (event != "none")


def test_places_of_the_object(player):
    env = player._open
    for event in ("teleport", "vanish"):
        player.play(SEED, "none")
        before = env.object_m
        player.play(SEED, event)
        moved = np.linalg.norm(env.object_m[:2] - before[:2])
        assert moved >= JUMP_M[0] - 0.1 if event == "teleport" else moved > 1


def test_the_wall_is_passed_step_by_step():
    wall = Wall(centre_m=(0.5, 0.0), yaw_rad=0.3, half_m=(0.01, 0.08, 0.05))
    place = np.array([0.42, 0.03])
    other = mirrored(wall, place)
    here, there = wall.to_local(place), wall.to_local(other)
    np.testing.assert_allclose(there, [-here[0], here[1]], atol=1e-12)
    assert STEPS_IN_WALL == 3
