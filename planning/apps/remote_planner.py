"""Plan a drive with a plan server; imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from planning.apps.logged_planner import logged_planner
from planning.arm_options import DriveOptions
from planning.driving import Image
from planning.errors import PlanError
from planning.options import Precision
from planning.protocols import Agent, Box
from planning.remote.fields import as_text, as_whole, get
from planning.remote.policy import RemotePolicy, section
from planning.remote.wire import Message
from planning.rollout import Episode
from planning.serve_options import RemoteOptions
from robot.arm import ArmSpec
from robot.calibrate import Axes


def _precision(hello: Message, name: str, allowed: tuple[Precision, ...]) -> Precision:
    """Return a data type of the server's greeting.

    Raises:
        PlanError: It is none of those that are allowed.
    """
    for choice in allowed:
        if hello.get(name) == choice:
            return choice
    found = str(hello.get(name))[:60]
    raise PlanError(f"The plan server's {name} is {found}; known: {', '.join(allowed)}")


class RemotePlanner:
    """A plan server as a `planning.apps.drive_planner.DrivePlanner`.

    Args:
        options: Options of the drive; `remote.policy` is the server's address.

    Raises:
        DriveError: The server cannot be reached.
        PlanError: The server is another kind, or an option is wrong.
    """

    def __init__(self, options: DriveOptions) -> None:
        axes = Axes.read(Path(options.axes)).matrix if options.axes else None
        self.policy = RemotePolicy(options.remote, axes=axes)
        self.address = options.remote.policy
        try:
            self.options = self._in_fact(options)
        except BaseException:
            self.policy.close()
            raise

    def _in_fact(self, options: DriveOptions) -> DriveOptions:
        """Return the options with the server's model and planner, as a replay needs them."""
        hello = self.policy.hello
        try:
            planner = logged_planner({"planner": section(hello, "planner")})
        except TypeError as error:
            raise PlanError(f"The plan server's planner cannot be read ({error})") from error
        model = as_text(get(hello, "model"), "model", 4096)
        return dataclasses.replace(
            options,
            remote=RemoteOptions(),
            planner=planner,
            model=model,
            precision=_precision(hello, "precision", ("auto", "float32", "bfloat16")),
        )

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the model's input images [px]."""
        return self.policy.image_size

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the cameras that the model sees, the main one first."""
        return self.policy.views

    def preprocess(self, image: Image) -> Image:
        """Return an image about as the model sees it."""
        return self.policy.preprocess(image)

    def connect(self, arm: ArmSpec, box_m: Box, interrupt: Callable[[str], None]) -> None:
        """Tell the server the arm's conventions; `interrupt` is called when it is lost."""
        self.policy.connect(arm, box_m, interrupt)

    def agent(self) -> Agent:
        """Return the agent that asks the server."""
        return self.policy.agent()

    def facts(self) -> dict[str, Any]:
        """Return the log header's part that a replay needs, and the server's address."""
        hello = self.policy.hello
        return {
            "policy": self.address,
            "method": self.options.planner.method,
            "threads": as_whole(get(hello, "threads"), "threads", 1, 4096),
            "weights": _precision(hello, "weights", ("float32", "bfloat16")),
            "specs": {name: section(hello, name) for name in ("observation", "action")},
        }

    def imagine(self) -> None:
        """Return nothing: imagined tokens stay on the server."""

    def add_imagined(self, episodes: list[Episode]) -> None:
        """Add nothing: imagined tokens stay on the server."""

    def close(self) -> None:
        """End the connection."""
        self.policy.close()
