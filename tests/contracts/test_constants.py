"""Numbers that packages define for themselves, since none may import another, are the same."""

import torch

import planning.bounds
import robot.arm
import robot.constants
import worldmodel.constants
import worldmodel.specs
from planning.energy import energy
from worldmodel.models.energy import token_distance


def test_limits_of_an_action():
    model, arm = worldmodel.specs.ActionSpec(), robot.arm.ArmSpec()
    assert planning.bounds.MAX_STEP_M == model.max_step_m == arm.max_step_m
    assert model.max_rotation_rad == arm.max_rotation_rad
    assert model.period_s == arm.period_s


def test_gripper_and_hand():
    world, arm = worldmodel.constants, robot.constants
    assert planning.bounds.GRIPPER_DEAD_BAND == world.GRIPPER_DEAD_BAND == arm.GRIPPER_DEAD_BAND
    assert world.FLANGE_TO_TCP_M == arm.FLANGE_TO_TCP_M
    assert world.FLANGE_TO_HAND_YAW_RAD == arm.FLANGE_TO_TCP_YAW


def test_distance_of_tokens():
    z, goal = torch.randn(5, 3, 8), torch.randn(1, 3, 8)
    assert torch.equal(token_distance(z, goal), energy(z, goal))
