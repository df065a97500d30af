"""Errors of predictions by step, and how they separate episodes."""

import pytest
import torch

from worldmodel import load_world_model
from worldmodel.errors import ShapeError
from worldmodel.evaluation.step_surprise import separation, step_errors


def test_errors_are_those_of_teacher_forced_predictions():
    world = load_world_model("default", "cpu")
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 6, 1, 256, generator=generator)
    states, actions = torch.zeros(2, 6, 7), 0.02 * torch.randn(2, 5, 7, generator=generator)
    whole = world.predict(z[:, :-1], actions, states[:, :-1])
    expected = (whole - z[:, 1:]).abs().mean((2, 3))
    torch.testing.assert_close(step_errors(world, z, states, actions, 16), expected)
    short = step_errors(world, z, states, actions, 2)
    torch.testing.assert_close(short[:, :2], expected[:, :2])
    last = world.predict(z[:, 3:5], actions[:, 3:], states[:, 3:5])[:, -1]
    torch.testing.assert_close(short[:, 4], (last - z[:, 5]).abs().mean((1, 2)))
    with pytest.raises(ShapeError, match="an action between each two"):
        step_errors(world, z, states, actions[:, :-1], 4)


def test_separation():
    generator = torch.Generator().manual_seed(0)
    plain = torch.rand(40, 10, generator=generator)
    event, steps = plain.clone(), torch.arange(40) % 8
    event[torch.arange(40), steps + 1] += 2.0  # the second step of the event
    found = separation(plain, event, steps, 2)
    assert (found.auroc, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))
    assert (found.pairs_won, found.found_at, found.episodes) == (40, 40, 40)
    assert found.ratio > 2
    same = separation(plain, plain, steps, 1)
    assert same.auroc == pytest.approx(0.5)
    assert same.low < 0.5 < same.high
    assert (same.pairs_won, same.ratio) == (0, 1.0)
