"""Plan for the clients of a plan server: one agent a client, all with one model."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib

import numpy as np
import torch
from numpy.typing import NDArray

from planning.apps.plan_fields import arm_of, box_of, first_image
from planning.apps.policies import check_steps, make_planning_agent, planner_config, samples_at_once
from planning.errors import PlanError
from planning.goals import MAX_STEPS, GoalPicture
from planning.policy import Policy
from planning.protocols import Agent, Decision, Reading, SubGoal, other_images, view_key
from planning.remote.batching import BatchedModel
from planning.remote.fields import as_image, as_number, as_numbers, as_text, as_whole, get
from planning.remote.policy import PROTOCOL
from planning.remote.records import MAX_GOALS, decision_message
from planning.remote.wire import Message
from planning.serve_options import ServeOptions
from robot.arm import ArmSpec
from robot.kinematics import flange_pose
from robot.pose import flange_to_tcp, matrix_to_euler
from worldmodel.models.world_model import WorldModel

MAX_GOAL_BYTES = 128 * 2**20
"""Size of all goal images of a client's episode."""
OTHER_IMAGES = {
    "wrist": ("observation/wrist_image", "observation/wrist_image_left"),
    "right": ("observation/exterior_image_2_left",),
}
"""Camera -> names that openpi's observations have for its image."""
STATES = ("state", "observation/state")
GOALS = ("goal", "observation/goal")
JOINTS, GRIPPER = "observation/joint_position", "observation/gripper_position"
"""Names of openpi's observations for DROID; its state is computed from the joint positions."""


class PlanService:
    """What all sessions share: the model, the planner's settings, and the server's own goal.

    Args:
        world: World model.
        options: Resolved options of the server.
        goal: Goal image for clients whose observations hold none.
    """

    def __init__(
        self, world: WorldModel, options: ServeOptions, goal: NDArray[np.uint8] | None = None
    ) -> None:
        check_steps(world, options.planner)
        self.world, self.options, self.goal = world, options, goal
        device = str(next(world.parameters()).device)
        chunk, self.batched = samples_at_once(world, options.planner), None
        if options.batch_window_s:
            self.batched = BatchedModel(world, options.batch_window_s, chunk)
            device = "cpu"  # a search captured in a CUDA graph cannot share its calls
        self.config = planner_config(options.planner, chunk=chunk, device=device)

    def policy(self, axes: NDArray[np.float64] | None = None) -> Policy:
        """Return a new policy of the shared model."""
        return Policy(self.batched or self.world, self.config, axes=axes)

    def working(self) -> contextlib.AbstractContextManager[None]:
        """Return the context of a request in progress."""
        return contextlib.nullcontext() if self.batched is None else self.batched.working()

    def agent(self, policy: Policy, arm: ArmSpec) -> Agent:
        """Return a new agent for a connected policy."""
        options = self.options
        return make_planning_agent(policy, self.world, options.planner, arm, options.precision)

    def own_arm(self) -> ArmSpec:
        """Return the conventions of the model, for clients that tell none of their own."""
        seen, acts = self.world.observation_spec, self.world.action_spec
        return ArmSpec(
            period_s=acts.period_s,
            state_frame=seen.state_frame,
            state_dim=seen.state_dim,
            action_dim=acts.action_dim,
            max_step_m=acts.max_step_m,
        )

    def hello(self) -> Message:
        """Return the greeting: model, planner and conventions."""
        return {
            "server": "worldmodel",
            "protocol": PROTOCOL,
            "model": self.options.model,
            "method": self.options.planner.method,
            "planner": dataclasses.asdict(self.options.planner),
            "precision": self.options.precision,
            "weights": str(self.world.dynamics.dtype).removeprefix("torch."),
            "device": str(next(self.world.parameters()).device),
            "threads": torch.get_num_threads(),
            "observation": dict(vars(self.world.observation_spec)),
            "action": dict(vars(self.world.action_spec)),
            "has_goal": self.goal is not None,
        }


class PlanSession:
    """Answers one client."""

    def __init__(self, service: PlanService) -> None:
        self.service, self.arm = service, service.own_arm()
        self.policy = service.policy().connect(self.arm)
        self.agent: Agent | None = None
        self.goals: list[SubGoal] = []
        self.key = ""
        """Fingerprint of the goal of an openpi client's episode."""

    def answer(self, message: Message) -> Message:
        """Return the answer to a request, or to an observation of openpi's kind.

        Raises:
            PlanError: The message is wrong.
        """
        handlers = {
            "connect": self._connect,
            "goal": self._goal,
            "begin": self._begin,
            "act": self._act,
        }
        if "request" not in message:
            with self.service.working():
                return self._infer(message)
        name = as_text(message["request"], "request")
        if name not in handlers:
            raise PlanError(f"request={name!r} is unknown. Known: {', '.join(handlers)}")
        with self.service.working():
            return handlers[name](message)

    def _connect(self, message: Message) -> Message:
        self.arm = arm_of(get(message, "arm"))
        axes = message.get("axes")
        turn = None if axes is None else as_numbers(axes, "axes", 2, 2)
        if turn is not None and not np.allclose(turn @ turn.T, np.eye(2), atol=0.01):
            raise PlanError(f"axes is {turn.tolist()}. Allowed: a rotation [2, 2]")
        self.policy = self.service.policy(turn).connect(self.arm, box_of(message.get("box_m")))
        self.agent, self.goals, self.key = None, [], ""
        return {"ready": True}

    def _goal(self, message: Message) -> Message:
        image = as_image(get(message, "image"), "image")
        others = self._others(message)
        held = sum(map(_nbytes, self.goals)) + image.nbytes + sum(x.nbytes for x in others.values())
        if len(self.goals) >= MAX_GOALS or held > MAX_GOAL_BYTES:
            raise PlanError(
                f"An episode has at most {MAX_GOALS} goals of {MAX_GOAL_BYTES >> 20} MB in all"
            )
        steps = as_whole(get(message, "steps"), "steps", 1, MAX_STEPS)
        name = as_text(get(message, "name"), "name")
        self.goals.append(GoalPicture(name=name, image=image, steps=steps, others=others))
        return {"ready": True}

    def _begin(self, message: Message) -> Message:
        goals, self.goals = self.goals, []
        if not goals:
            raise PlanError("There is no goal. Send a request `goal` for each one first")
        seed = as_whole(get(message, "seed"), "seed", 0, 2**63 - 1)
        self._start(goals, seed)
        return {"ready": True}

    def _start(self, goals: list[SubGoal], seed: int) -> Agent:
        self.agent, self.key = None, ""  # a goal that fails leaves no earlier episode behind
        agent = self.service.agent(self.policy, self.arm)
        agent.begin(goals, seed)
        self.agent = agent
        return agent

    def _act(self, message: Message) -> Message:
        if self.agent is None or self.key:  # an observation's goal begins no episode
            raise PlanError("There is no episode. Send the request `begin` first")
        image = as_image(get(message, "image"), "image")
        state = as_numbers(get(message, "state"), "state", self.arm.state_dim)
        reading: Reading = {
            "image": image,
            **self._further(message),
            "state": state.astype(np.float32),
        }
        decision = self.agent.act(reading)
        return {"done": True} if decision is None else decision_message(decision)

    def _infer(self, message: Message) -> Message:
        """Answer an observation of openpi's clients, which has no episode of its own."""
        reading: Reading = {
            "image": first_image(message),
            **self._further(message),
            "state": self._state(message),
        }
        agent = self._toward(message)
        decision = agent.act(reading)
        if decision is None:
            still = np.zeros((1, self.arm.action_dim), np.float32)
            return {"actions": still, "done": True, "energy": float("nan")}
        energies = {"energy": float(decision.energy), "imagined": float(decision.imagined)}
        return {"actions": self._actions(decision), "done": False, **energies}

    def _further(self, message: Message) -> dict[str, NDArray[np.uint8]]:
        """Return the images of the model's other cameras by their names in observations."""
        return {view_key(name): image for name, image in self._others(message).items()}

    def _others(self, message: Message) -> dict[str, NDArray[np.uint8]]:
        """Return the images of the model's other cameras that a message holds, by camera."""
        found: dict[str, NDArray[np.uint8]] = {}
        for camera in self.policy.views[1:]:
            key = view_key(camera)
            names = (key, f"observation/{key}", *OTHER_IMAGES.get(camera, ()))
            name = next((name for name in names if name in message), "")
            if name:
                found[camera] = as_image(message[name], name)
        return found

    def _toward(self, message: Message) -> Agent:
        """Return the agent for the goal of an observation, a new one if the goal has changed."""
        name = next((name for name in GOALS if name in message), "")
        goal = as_image(message[name], name) if name else self.service.goal
        if goal is None:
            raise PlanError(
                f"The observation has no goal image. Add {GOALS[0]!r}, an RGB image of uint8, or "
                "start the server with goals=FILE"
            )
        key = hashlib.sha256(repr(goal.shape).encode() + goal.tobytes()).hexdigest()
        if self.agent is not None and key == self.key and not message.get("reset"):
            return self.agent
        picture = GoalPicture("goal", goal, steps=MAX_STEPS)
        agent = self._start([picture], self.service.options.seed)
        self.key = key
        return agent

    def _state(self, message: Message) -> NDArray[np.float32]:
        """Return the state of an observation; of DROID's, from joint positions and gripper."""
        name = next((name for name in STATES if name in message), "")
        if name:
            return as_numbers(message[name], name, self.arm.state_dim).astype(np.float32)
        if JOINTS not in message:
            raise PlanError(
                f"The observation has no state. Give {STATES[0]!r} ({self.arm.state_dim} numbers: "
                f"position [m], Euler angles [rad], closedness), or {JOINTS!r} and {GRIPPER!r}"
            )
        joints = as_numbers(message[JOINTS], JOINTS, 7)
        if np.abs(joints).max() > 2 * np.pi:
            raise PlanError(f"{JOINTS} is {joints.tolist()}. Allowed: radians")
        closed = np.asarray(get(message, GRIPPER), dtype=object).ravel()
        closedness = as_number(closed[0] if len(closed) == 1 else None, GRIPPER, -0.1, 1.1)
        pose = flange_pose(joints)
        state = np.concatenate([pose[:3, 3], matrix_to_euler(pose[:3, :3]), [closedness]])
        if self.arm.state_frame == "tcp":
            state = flange_to_tcp(state, self.arm.flange_to_tcp_m)
        return state.astype(np.float32)

    def _actions(self, decision: Decision) -> NDArray[np.float32]:
        """Return all planned actions [K, A] in the arm's axes, the first as it is carried out."""
        later = torch.tensor(decision.plan[1:], dtype=torch.float32)
        later = later.reshape(-1, self.policy.bounds.action_dim)
        return np.concatenate([decision.action[None], self.policy.to_arm(later).numpy()])


def _nbytes(goal: SubGoal) -> int:
    """Return the size of a goal's images [bytes]."""
    return goal.image.nbytes + sum(image.nbytes for image in other_images(goal).values())
