"""A policy adopts what model and arm declare, converts what it can, and refuses the rest."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from planning.agent import PlanningAgent
from planning.energy import energy
from planning.errors import PlanError
from planning.goals import GoalPicture
from planning.planner import Memory, PlannerConfig
from planning.policy import Policy
from planning.solvers.cem import CEM
from robot.arm import ArmSpec
from robot.pose import flange_to_tcp
from worldmodel.actions import convert_state
from worldmodel.errors import ShapeError
from worldmodel.models.energy import token_distance
from worldmodel.models.preprocess import Preprocess
from worldmodel.specs import ActionSpec, ObservationSpec

STATE = np.array([0.45, 0.05, 0.3, 3.0, 0.2, -0.7, 0.0])
BOX = ((0.3, -0.3, 0.1), (0.6, 0.3, 0.4))
SEARCH = PlannerConfig(optimiser=CEM(num_samples=64, iterations=3, num_elites=8))


class FakeModel:
    """Tokens are the mean colour; the latent moves by the action. It keeps the states it gets."""

    def __init__(self, observation=None, action=None):
        self.observation_spec = observation or ObservationSpec(image_size=(16, 16))
        self.action_spec = action or ActionSpec(gripper="command")
        self.states = []

    def preprocess(self, frames):
        return Preprocess("droid", self.observation_spec.image_size)(frames)

    def encode(self, frames):
        return frames.float().mean((1, 2))[:, None] / 255.0

    def unroll(self, z, state, actions, past=None):
        self.states.append(state)
        return z[:, None] + actions[..., :3].cumsum(1)[:, :, None]

    def convert_state(self, state, frame):
        return convert_state(state, frame, self.observation_spec.state_frame)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def plan(policy, **options):
    return policy.plan({"image": picture(16, 16), "state": STATE}, torch.ones(1, 1, 3), **options)


@pytest.mark.parametrize("size", [(16, 16), (256, 256), (480, 640), (640, 360)])
def test_a_picture_of_any_size_gives_the_tokens_of_the_one_transform(size):
    model = FakeModel()
    policy, image = Policy(model), picture(*size)
    want = Preprocess("droid", (16, 16))(torch.from_numpy(image))
    assert torch.equal(torch.from_numpy(policy.preprocess(image)), want)
    tokens = policy.encode(image)
    assert torch.equal(tokens, model.encode(want[None]))
    assert torch.equal(tokens, policy.observe(image, STATE).z_1ND)
    assert torch.equal(tokens, policy.encode(policy.preprocess(image)))
    assert torch.equal(policy.encode(image[:, ::-1]), policy.encode(image[:, ::-1].copy()))


def test_a_picture_that_is_not_uint8_is_refused():
    with pytest.raises(ShapeError, match="uint8"):
        Policy(FakeModel()).encode(picture(16, 16) / 255.0)


def test_limits_are_the_smaller_of_model_and_arm_and_the_box_is_kept():
    policy = Policy(FakeModel(action=ActionSpec(max_step_m=0.06)), SEARCH)
    assert policy.bounds.max_step_m == 0.06
    assert policy.bounds.gripper == "published"
    policy.connect(ArmSpec(max_step_m=0.02), BOX)
    assert (policy.bounds.max_step_m, policy.bounds.low_m) == (0.02, BOX[0])
    found, _ = plan(policy)
    assert found.actions_KA[:, :3].abs().max() <= 0.02
    assert policy.connect(ArmSpec()).bounds.max_step_m == 0.06
    assert policy.bounds.low_m is None


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        (ArmSpec(period_s=0.2), "0.25 s, an action of the arm 0.2 s.*trained at 5 Hz"),
        (ArmSpec(camera="wrist"), "trained on the camera left, .* by the camera wrist"),
        (ArmSpec(state_dim=8), "states have 7 numbers, the arm's have 8"),
        (ArmSpec(action_dim=6), "actions have 7 numbers, the arm's have 6"),
    ],
)
def test_what_cannot_be_converted_is_refused_when_connecting(arm, words):
    with pytest.raises(PlanError, match=words):
        Policy(FakeModel()).connect(arm)


def test_other_actions_and_states_are_refused():
    with pytest.raises(PlanError, match="10 numbers"):
        Policy(FakeModel(action=ActionSpec(action_dim=10)))
    with pytest.raises(PlanError, match="needs 7 numbers"):
        Policy(FakeModel()).observe(picture(16, 16), STATE[:6])


def test_states_of_the_flange_reach_a_fingertip_model_as_fingertip_states():
    seen = ObservationSpec(image_size=(16, 16), state_frame="tcp")
    model = FakeModel(seen)
    policy = Policy(model, SEARCH).connect(ArmSpec(state_frame="flange"), BOX)
    plan(policy)
    state = model.states[0][0].numpy()
    np.testing.assert_allclose(state[:3], flange_to_tcp(STATE)[:3], atol=1e-6)
    np.testing.assert_allclose(state[3:], STATE[3:], atol=1e-6)
    # The workspace limits the arm's flange, whichever point the model knows.
    at_the_floor = {"image": picture(16, 16), "state": [0.45, 0, 0.1, np.pi, 0, 0, 0]}
    found, _ = policy.plan(at_the_floor, policy.encode(picture(16, 16)) - 1.0)
    assert found.actions_KA[0, 2] == 0.0
    unconnected = FakeModel(seen)
    plan(Policy(unconnected, SEARCH))
    np.testing.assert_allclose(unconnected.states[0][0].numpy(), STATE, atol=1e-6)


def test_calibrated_axes_turn_the_planned_moves():
    straight, _ = plan(Policy(FakeModel(), SEARCH))
    turned, _ = plan(Policy(FakeModel(), SEARCH, axes=np.array([[0.0, -1.0], [1.0, 0.0]])))
    x, y = straight.actions_KA[:, 0], straight.actions_KA[:, 1]
    torch.testing.assert_close(turned.actions_KA[:, :2], torch.stack([-y, x], 1))
    assert torch.equal(turned.actions_KA[:, 2:], straight.actions_KA[:, 2:])


def test_the_gripper_is_kept_where_it_is_not_planned():
    config = replace(SEARCH, gripper_free=False, gate_m=0.0)
    found, _ = plan(Policy(FakeModel(), config).connect(ArmSpec(), BOX))
    assert found.actions_KA[0, 6] == 0


def test_an_episode_is_its_memory():
    policy = Policy(FakeModel(), replace(SEARCH, warm_start=True))
    first, memory = plan(policy, memory=Memory.start(1))
    again, _ = plan(policy, memory=Memory.start(1))
    assert torch.equal(first.actions_KA, again.actions_KA)
    second, _ = plan(policy, memory=memory)
    assert not torch.equal(first.actions_KA, second.actions_KA)


def test_the_agent_acts_as_the_policy_plans():
    policy = Policy(FakeModel(), SEARCH)
    goal = type("Goal", (), {"name": "there", "image": picture(32, 32, 1), "steps": 3})()
    agent = PlanningAgent(policy)
    agent.begin([goal], seed=4)
    reading = {"image": picture(64, 64), "state": STATE}
    decision = agent.act(reading)
    want, _ = policy.plan(reading, policy.encode(goal.image), Memory.start(4))
    np.testing.assert_array_equal(decision.action, want.actions_KA[0].numpy())
    assert decision.plan[0] == want.actions_KA[0].tolist()


class TwoViews(FakeModel):
    """A model of two cameras, each of which gives one token."""

    def __init__(self, cameras=("left", "wrist")):
        super().__init__(ObservationSpec(image_size=(16, 16), cameras=cameras))

    def encode(self, frames_BVHWC):
        return frames_BVHWC.float().mean((2, 3)) / 255.0

    def encode_main(self, frames):
        return super().encode(frames)


def test_all_cameras_are_seen_and_the_goal_is_of_the_main_one():
    policy = Policy(TwoViews())
    left, wrist = picture(16, 16), picture(32, 32, seed=1)
    reading = {"image": left, "image_wrist": wrist, "state": STATE}
    seen, goal = policy.look(reading).z_1ND, policy.encode(picture(16, 16, seed=2))
    assert (policy.views, seen.shape, goal.shape) == (("left", "wrist"), (1, 2, 3), (1, 1, 3))
    assert torch.equal(seen[:, :1], policy.encode(left))
    assert torch.equal(seen[:, 1:], policy.encode(wrist))
    assert torch.equal(energy(seen, goal), energy(seen[:, :1], goal))
    assert torch.equal(token_distance(seen, goal), energy(seen, goal))
    found, _ = policy.plan(reading, goal)
    other = policy.plan({**reading, "image_wrist": left}, goal)[0]
    assert torch.equal(found.actions_KA, other.actions_KA)  # here, the views move by themselves


def test_missing_and_other_cameras_are_refused_by_name():
    policy = Policy(TwoViews())
    with pytest.raises(PlanError, match=r"cameras left, wrist, .* no image_wrist"):
        policy.look({"image": picture(16, 16), "state": STATE})
    with pytest.raises(PlanError, match="1 images were given"):
        policy.observe(picture(16, 16), STATE)
    with pytest.raises(PlanError, match="2 images were given"):
        Policy(FakeModel()).observe(picture(16, 16), STATE, [picture(16, 16)])
    with pytest.raises(PlanError, match="trained on the camera wrist"):
        Policy(TwoViews(("wrist", "left"))).connect(ArmSpec(camera="left"))


def test_a_model_without_angles_plans_for_an_arm_of_poses():
    model = FakeModel(
        ObservationSpec(image_size=(16, 16), state_dim=4),
        ActionSpec(gripper="command", action_dim=4),
    )
    policy = Policy(model, SEARCH, axes=np.array([[0.0, -1.0], [1.0, 0.0]])).connect(ArmSpec())
    found, _ = plan(policy)
    assert found.actions_KA.shape[-1] == 7
    assert not found.actions_KA[:, 3:6].any()
    assert {state.shape[-1] for state in model.states} == {4}
    assert torch.allclose(model.states[0][0], torch.tensor(STATE[[0, 1, 2, 6]]).float())
    turned = policy.to_arm(torch.tensor([[0.01, 0.02, 0.03, 1.0]]))
    assert torch.allclose(turned, torch.tensor([[-0.02, 0.01, 0.03, 0.0, 0.0, 0.0, 1.0]]))
    with pytest.raises(PlanError, match="millimetres"):
        policy.observe(picture(16, 16), [450.0, *STATE[1:]])
    own = Policy(model, SEARCH).connect(ArmSpec(state_dim=4, action_dim=4))
    assert own.to_arm(torch.zeros(1, 4)).shape == (1, 4)
    with pytest.raises(PlanError, match="needs 4 numbers"):
        own.observe(picture(16, 16), STATE)


def test_a_goal_may_show_the_first_views_of_the_model():
    policy = Policy(TwoViews(("left", "right", "wrist")))
    images = {name: picture(16, 16, seed=i) for i, name in enumerate(policy.views)}
    seen = policy.encode(*[images["left"], [images["right"], images["wrist"]]])
    for count in (0, 1, 2):
        others = {name: images[name] for name in policy.views[1 : 1 + count]}
        goal = policy.encode_goal(GoalPicture("goal", images["left"], others=others))
        assert torch.equal(goal, seen[:, : 1 + count])
        assert float(energy(seen, goal)) == 0
    with pytest.raises(PlanError, match="goal shows wrist beside the main camera"):
        policy.encode_goal(GoalPicture("goal", images["left"], others={"wrist": images["wrist"]}))
    with pytest.raises(PlanError, match="model sees left"):
        Policy(FakeModel()).encode_goal(
            GoalPicture("goal", images["left"], others={"wrist": images["wrist"]})
        )


def test_no_gripper_is_planned_for_an_arm_that_has_none():
    policy = Policy(FakeModel(), SEARCH)
    grips = {float(plan(policy.connect(ArmSpec()))[0].actions_KA[0, 6]) for _ in range(2)}
    assert policy.bounds.gripper_free
    assert grips <= {-1.0, 0.0, 1.0}
    found, _ = plan(policy.connect(ArmSpec(gripper="none")))
    assert not policy.bounds.gripper_free
    assert not found.actions_KA[:, 3:].any()
    assert found.actions_KA[:, :3].any()
    assert policy.connect(ArmSpec()).bounds.gripper_free
