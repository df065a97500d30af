"""Any Gymnasium environment with goal images: defaults, and faults of the user's class."""

import gymnasium
import numpy as np
import pytest

from envs.errors import TaskError
from envs.gym_env import GymGoalEnv
from envs.sizes import as_pose
from robot.arm import ArmSpec


class Line(gymnasium.Env):
    """A point on a line, or on a plane; each action moves it by 5 cm at most."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, size=1, high=1.0):
        self.action_space = gymnasium.spaces.Box(-high, high, (size,), np.float32)
        self.observation_space = gymnasium.spaces.Box(-9, 9, (size,), np.float32)
        self.render_mode, self.size, self.high = "rgb_array", size, high

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-0.1, 0.1, self.size)
        return self.place, {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.place = self.place + 0.05 * action / self.high
        return self.place, 0.0, False, False, {}

    def render(self):
        image = np.full((40, 60, 3), 50, np.uint8)
        image[:, int(30 + 50 * self.place[0]) % 60] = 255
        return image


class Unseeded(Line):
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = np.random.default_rng().uniform(-1, 1, self.size)
        return self.place, {}


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_an_environment_without_a_class_of_its_own_works(size):
    env = GymGoalEnv(Line(size), image_size=32)
    seen, info = env.reset(seed=3)
    assert (seen["image"].shape, seen["state"].tolist()) == ((32, 32, 3), [0, 0, 0, 0])
    assert not info["success"]
    goals = env.sub_goals()
    assert [goal.name for goal in goals] == ["goal"]
    start = env.env.place.copy()
    for _ in range(3):
        seen, _, _, _, info = env.step(np.array([0.02, 0.0, 0.0, 1.0]))
    assert env.env.place[0] - start[0] == pytest.approx(0.06)
    assert np.allclose(seen["state"], [0.06, 0, 0, 1])
    assert info["error_m"] == pytest.approx(np.linalg.norm(seen["state"][:3] - goals[0].state[:3]))
    assert env.observation_space.contains(seen)


def test_the_goal_is_a_picture_that_play_reaches_and_the_seed_gives_it_again():
    env = GymGoalEnv(Line(), image_size=32)
    pictures = []
    for _ in range(2):
        env.reset(seed=5)
        pictures.append(env.sub_goals()[-1].image)
    assert np.array_equal(*pictures)
    rng = np.random.default_rng(5)
    for action, _ in zip(env.play(rng), range(env.goal_steps), strict=False):
        seen, _, _, _, info = env.step(action.astype(np.float32))
    assert np.array_equal(seen["image"], pictures[0])
    assert info["success"]


def test_actions_are_clipped_and_scaled_to_the_environments_limits():
    env = GymGoalEnv(Line(2, high=7.0))
    env.reset(seed=0)
    start = env.env.place.copy()
    env.step(np.array([9.0, -9.0, 0.0, 0.0]))
    assert np.allclose(env.env.place - start, [0.05, -0.05])


class Named(GymGoalEnv):
    near_m = 0.001

    def make_env(self):
        return Line()

    def position(self):
        return np.array([self.env.place[0], 0, 0, 0])

    def solve(self, rng):
        yield np.array([0.05, 0, 0, 0])
        yield "half"
        yield np.array([0.05, 0, 0, 0])
        yield "there"


def test_an_expert_names_its_sub_goals():
    env = Named(image_size=32)
    env.reset(seed=1)
    goals = env.sub_goals()
    assert [goal.name for goal in goals] == ["half", "there"]
    assert goals[1].state[0] - goals[0].state[0] == pytest.approx(0.05)
    assert [goal.name for goal in env.sub_goals("last")] == ["there"]
    env.step(np.array([0.05, 0, 0, 0]))
    assert not env.info()["success"]
    env.step(np.array([0.05, 0, 0, 0]))
    assert env.info()["success"]
    with pytest.raises(TaskError, match="start of an episode"):
        env.sub_goals()


class Wrong(Named):
    def position(self):
        return np.zeros(2)


class Millimetres(Named):
    def position(self):
        return np.array([420.0, 0.0, 0.0, 0.0])


class Lost(Named):
    def position(self):
        return np.array([0.0, 0.0, 0.0, np.nan])


class Blind(Line):
    def render(self):
        return "a text"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GymGoalEnv(Unseeded()), "does not start again"),
        (GymGoalEnv, "override make_env"),
        (Wrong, "allowed: 4 numbers"),
        (Millimetres, r"position\(\) is \[420.0, .*Give metres"),
        (Lost, r"position\(\) is .*nan\]; allowed: finite numbers"),
        (lambda: GymGoalEnv(Blind()), "render_mode='rgb_array'"),
    ],
)
def test_an_incomplete_environment_says_what_is_missing(make, message):
    def begin():
        env = make()
        env.reset(seed=0)
        env.sub_goals()

    with pytest.raises(TaskError, match=message):
        begin()


def test_discrete_actions_need_a_mapping():
    env = GymGoalEnv(Line())
    env.env.action_space = gymnasium.spaces.Discrete(3)
    env.reset(seed=0)
    with pytest.raises(TaskError, match="override to_env"):
        env.step(np.zeros(4))


def test_sizes_of_states_and_actions():
    class Turning(Named):
        arm_spec = ArmSpec()

        def position(self):
            return np.array([self.env.place[0], 0, 0, 0.1, 0.2, 0.3, 1])

    env = Turning(image_size=32)
    seen, _ = env.reset(seed=0)
    assert (seen["state"].shape, env.action_space.shape) == ((7,), (7,))
    assert as_pose([1, 2, 3, 4]).tolist() == [1, 2, 3, 0, 0, 0, 4]
    assert as_pose(np.arange(7)).tolist() == list(range(7))
    with pytest.raises(TaskError, match="allowed: 4 numbers"):
        as_pose([1, 2])
