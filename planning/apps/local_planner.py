"""Plan a drive with a model on this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from planning.apps.embodiment import warn_of_embodiment
from planning.apps.imagined import add_imagined, find_decoder
from planning.apps.own_encoder import open_world
from planning.apps.policies import make_planning_agent, open_policy
from planning.arm_options import DriveOptions
from planning.driving import Image
from planning.protocols import Agent, Box
from planning.report.live_view import Imagine
from planning.rollout import Episode
from robot.arm import ArmSpec


class LocalPlanner:
    """A policy and its world model as a `planning.apps.drive_planner.DrivePlanner`.

    Args:
        options: Resolved options of the drive.
    """

    def __init__(self, options: DriveOptions) -> None:
        self.options = options
        warn_of_embodiment(options.model, options.workcell.scene.embodiment)
        self.world = open_world(options.model, options.device, options.precision)
        self.policy = open_policy(self.world, options.planner, axes=options.axes)
        self.arm = ArmSpec()

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the model's input images [px]."""
        return self.policy.image_size

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the cameras that the model sees, the main one first."""
        return self.policy.views

    def preprocess(self, image: Image) -> Image:
        """Return an image as the model sees it."""
        return self.policy.preprocess(image)

    def connect(self, arm: ArmSpec, box_m: Box, interrupt: Callable[[str], None]) -> None:
        """Adopt an arm's conventions and limits; nothing here interrupts a motion."""
        self.policy.connect(arm, box_m)
        self.arm = arm

    def agent(self) -> Agent:
        """Return the agent that chooses the actions."""
        options = self.options
        return make_planning_agent(
            self.policy, self.world, options.planner, self.arm, options.precision
        )

    def facts(self) -> dict[str, Any]:
        """Return the log header's part that a replay needs."""
        return {
            "method": self.options.planner.method,
            "threads": torch.get_num_threads(),
            "weights": str(self.world.dynamics.dtype).removeprefix("torch."),
            "specs": {
                "observation": dict(vars(self.policy.model.observation_spec)),
                "action": dict(vars(self.policy.model.action_spec)),
            },
        }

    def imagine(self) -> Imagine | None:
        """Return what decodes imagined tokens, if a decoder is beside the model."""
        decoder = find_decoder(self.options.model, self.world)
        if decoder is None:
            return None

        def picture(tokens_ND: NDArray[np.float16], image: Image) -> Image:
            now = self.world.preprocess(torch.from_numpy(image))
            return decoder.picture(torch.from_numpy(tokens_ND).float(), now)

        return picture

    def add_imagined(self, episodes: list[Episode]) -> None:
        """Add pictures of what was imagined to the episodes."""
        add_imagined(episodes, self.options.model, self.world)

    def close(self) -> None:
        """Do nothing: the model is freed with this object."""
