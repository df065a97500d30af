"""An environment as a workcell: its actions arrive as planned, and its faults end in words."""

import sys

import numpy as np
import pytest

from envs.gym_env import GymGoalEnv
from planning.apps.environment_workcell import EnvironmentWorkcell
from planning.apps.workcell import safe_arm
from planning.errors import DriveError, PlanError
from planning.workcell_options import WorkcellOptions
from robot.arm import ArmSpec
from robot.errors import ArmError
from tests.envs.test_gym_env import Line


class Flat(GymGoalEnv):
    """Notes the actions that it gets."""

    def make_env(self):
        return Line(4)

    def step(self, action):
        self.given = [*getattr(self, "given", []), np.array(action)]
        return super().step(action)


class Turning(Flat):
    arm_spec = ArmSpec()


class Small(Flat):
    box_m = ((-0.06, -0.06, -0.06), (0.06, 0.06, 0.06))


class Broken(Flat):
    def to_env(self, action):
        raise KeyError("gone")


@pytest.fixture
def cell(request):
    options = WorkcellOptions(environment=f"{__name__}:{request.param.__name__}")
    with EnvironmentWorkcell(options, 32) as opened:
        opened.begin(3)
        yield opened


def arm_of(cell, *, execute=True):
    return safe_arm(WorkcellOptions(environment="fetch_push"), cell, execute=execute)


@pytest.mark.parametrize("cell", [Flat, Turning], indirect=True)
def test_actions_pass_the_safety_layer_unchanged(cell):
    rng, arm, size = np.random.default_rng(0), arm_of(cell), cell.env.arm_spec.action_dim
    most = np.float32(cell.env.arm_spec.max_step_m)
    for grip in (1.0, 0.0, 1.0, -1.0, 0.0):
        action = np.zeros(7, np.float32)
        action[:3] = rng.choice([-most, most], 3)
        action[3:6] = rng.uniform(-0.05, 0.05, 3) if size == 7 else 0.0
        action[6] = grip
        before, closed = cell.arm.state(), cell.moving.closed
        sent = arm.send(action)
        assert not sent.refused
        assert not sent.reasons
        given = cell.env.given[-1]
        assert given.shape == (size,)
        assert np.allclose(given[:-1], action[: size - 1], atol=1e-6)
        assert cell.moving.closed == (closed if grip == 0 else grip > 0)
        assert np.allclose(cell.arm.state().state[:3] - before.state[:3], action[:3], atol=1e-6)
    assert arm.commands == cell.arm.state().time_s / cell.env.arm_spec.period_s


@pytest.mark.parametrize("cell", [Flat], indirect=True)
def test_a_dry_run_moves_nothing(cell):
    assert arm_of(cell, execute=False).send([0.01, 0, 0, 0, 0, 0, 0]).refused
    assert not hasattr(cell.env, "given")
    assert np.array_equal(cell.camera.read().image, cell.moving.observation["image"])


@pytest.mark.parametrize("cell", [Small], indirect=True)
def test_the_workspace_of_an_environment_is_kept(cell):
    arm = arm_of(cell)
    for _ in range(4):
        arm.send([0.05, 0, 0, 0, 0, 0, 0])
    assert cell.arm.state().state[0] == pytest.approx(0.06, abs=1e-5)
    assert cell.box_m == Small.box_m


@pytest.mark.parametrize("cell", [Broken], indirect=True)
def test_an_exception_of_the_users_code_is_an_error_of_the_arm(cell):
    with pytest.raises(ArmError, match="environment's step failed"):
        arm_of(cell).send([0.01, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("cell", [Flat], indirect=True)
def test_a_model_with_angles_is_refused(cell):
    with pytest.raises(DriveError, match="sees the camera wrist too"):
        cell.open_views(["wrist"], {})
    cell.require_states(4)
    with pytest.raises(PlanError, match="have 7 numbers, the environment's have 4"):
        cell.require_states(7)


@pytest.mark.parametrize(
    "other", [{"robot": "fake"}, {"camera": "0"}, {"robot": "mod:Arm", "limits": "franka"}]
)
def test_options_of_an_arm_have_no_effect(other):
    with pytest.raises(PlanError, match="has no effect with environment=fetch_push"):
        WorkcellOptions(environment="fetch_push", **other)
    assert "mod" not in sys.modules
