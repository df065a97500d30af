"""A policy and an agent whose plans come from a server, with the interface of the local ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from planning.errors import PlanError
from planning.pictures import fit_picture
from planning.protocols import (
    ArmSpec,
    Box,
    Decision,
    Image,
    Reading,
    SubGoal,
    other_images,
    view_key,
)
from planning.remote.client import PlanConnection
from planning.remote.fields import as_text, as_whole, get
from planning.remote.records import MAX_GOALS, read_decision
from planning.remote.wire import Message
from planning.serve_options import RemoteOptions

MAX_VIEWS = 8
"""Maximum number of cameras of a server's model."""
PROTOCOL = 1
"""Version of the requests beside openpi's observations."""
ARM_FIELDS = (
    "period_s",
    "state_frame",
    "state_dim",
    "action_dim",
    "gripper",
    "max_step_m",
    "max_rotation_rad",
    "flange_to_tcp_m",
    "camera",
)
"""Conventions of an arm that are sent to a plan server."""


class RemotePolicy:
    """Connects an arm to the model of a plan server.

    Args:
        options: Address, token and time limits.
        axes: [2, 2] matrix from planned x-y moves to the arm's (`worldmodel calibrate axes`).

    Raises:
        DriveError: The server cannot be reached.
        PlanError: It is another kind of server, or speaks another version.
    """

    def __init__(self, options: RemoteOptions, *, axes: NDArray[np.float64] | None = None) -> None:
        self.options, self.axes = options, axes
        self.connection = PlanConnection(options)
        try:
            self.hello = self._checked(self.connection.hello)
        except BaseException:
            self.connection.close()
            raise

    def _checked(self, hello: Message) -> Message:
        if hello.get("server") != "worldmodel" or hello.get("protocol") != PROTOCOL:
            raise PlanError(
                f"{self.options.policy} is not a plan server of this version ({str(hello)[:200]}). "
                "Start `worldmodel serve` of the same version there"
            )
        seen = section(hello, "observation")
        sizes = get(seen, "image_size")
        if not isinstance(sizes, list) or len(sizes) != 2:
            raise PlanError("The plan server does not tell the size of its images")
        height, width = (as_whole(size, "image_size", 1, 4096) for size in sizes)
        self.image_size = height, width
        self.transform = as_text(get(seen, "transform"), "transform")
        cameras = get(seen, "cameras")
        if not isinstance(cameras, list) or not 1 <= len(cameras) <= MAX_VIEWS:
            raise PlanError("The plan server does not tell the cameras of its model")
        self.views = tuple(as_text(name, "cameras") for name in cameras)
        return hello

    def preprocess(self, image: Image) -> Image:
        """Return an image about as the model sees it; the server has the exact transform."""
        return fit_picture(image, self.transform, self.image_size)

    def connect(
        self, arm: ArmSpec, box_m: Box | None, interrupt: Callable[[str], None]
    ) -> RemotePolicy:
        """Tell the server the arm's conventions and limits; it compares them with the model's.

        Args:
            arm: Conventions declared by the arm.
            box_m: Workspace of planned positions.
            interrupt: Called with the reason, from another thread, when the server is lost.

        Raises:
            PlanError: Arm and model do not match.
        """
        self.connection.ask(
            {
                "request": "connect",
                "arm": {name: getattr(arm, name) for name in ARM_FIELDS},
                "box_m": None if box_m is None else np.array(box_m, dtype=np.float64),
                "axes": None if self.axes is None else np.asarray(self.axes, dtype=np.float64),
            }
        )
        self.connection.guard(interrupt)
        return self

    def agent(self) -> RemoteAgent:
        """Return an agent for this policy."""
        return RemoteAgent(self.connection)

    def close(self) -> None:
        """End the connection."""
        self.connection.close()


class RemoteAgent:
    """Agent whose decisions come from a plan server; goal images are sent once an episode."""

    def __init__(self, connection: PlanConnection) -> None:
        self.connection, self.num_goals = connection, 0

    def begin(self, goals: list[SubGoal], seed: int) -> None:
        """Send the goals of a new episode and the seed of the search.

        Raises:
            PlanError: There are too many goals, or the server refuses one.
        """
        if len(goals) > MAX_GOALS:
            raise PlanError(f"There are {len(goals)} goals; a plan server takes {MAX_GOALS}")
        self.num_goals = len(goals)
        for goal in goals:
            images = {
                view_key(name): np.ascontiguousarray(image)
                for name, image in other_images(goal).items()
            }
            images["image"] = np.ascontiguousarray(goal.image)
            self.connection.ask(
                {"request": "goal", "name": goal.name, "steps": goal.steps, **images}
            )
        self.connection.ask({"request": "begin", "seed": seed})

    def act(self, observation: Reading) -> Decision | None:
        """Return the next action, or None if all step budgets are spent.

        Raises:
            DriveError: The server is lost or too slow; the arm's motion was interrupted.
            PlanError: The server refuses the observation.
        """
        began = time.perf_counter()
        answer = self.connection.ask(
            {
                "request": "act",
                **{
                    name: np.ascontiguousarray(image)
                    for name, image in observation.items()
                    if name.startswith("image")
                },
                "state": np.asarray(observation["state"], dtype=np.float32),
            },
            timeout_s=self.connection.options.answer_s,
        )
        if answer.get("done") is True:
            return None
        decision = read_decision(answer, self.num_goals)
        took = time.perf_counter() - began
        decision.seconds["network"] = max(0.0, took - sum(decision.seconds.values()))
        return decision


def section(message: Mapping[str, object], name: str) -> Message:
    """Return a map inside a message.

    Raises:
        PlanError: There is none.
    """
    found = message.get(name)
    if not isinstance(found, dict):
        raise PlanError(f"The plan server's greeting has no {name}")
    return found
