"""Our task scenes behind libfranka's own protocol: a simulated arm that a real driver drives.

The physics run in the server's process at the arm's 1 kHz; pictures are rendered here, from the
joint positions in shared memory. Starts, goals and sub-goal pictures are those of `ArmEnv` with the
same seed, so that episodes can be compared one by one.
"""

from __future__ import annotations

import multiprocessing
import time
from typing import Any, Self

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.arm_env import ArmEnv, SubGoal
from envs.errors import EnvError, TaskError
from envs.twin.server import HEAD, Start, serve
from robot.cameras.camera import CallableCamera

Image = NDArray[np.uint8]

START_S = 30.0


def sync(env: ArmEnv, shared: Any) -> None:
    """Put the arm and the object of `env` where the server's are now."""
    for _ in range(1000):
        before = shared[0]
        numbers = np.array(shared[:])
        if before == shared[0] and before % 2 == 0:
            break
    env.data.qpos[:] = numbers[HEAD:]
    env.data.qvel[:] = 0.0
    mujoco.mj_forward(env.model, env.data)


class Twin:
    """A scene served at `address`; a context manager.

    Args:
        task, split, objects: as `ArmEnv`'s; one object shape.
        image_size: of the camera's square pictures [px].
    """

    def __init__(
        self,
        task: str = "reach",
        *,
        split: str = "train",
        objects: tuple[str, ...] = ("cube",),
        image_size: int = 128,
    ) -> None:
        if len(objects) != 1:
            raise EnvError(f"The twin serves one object shape, not {list(objects)}: choose one")
        self.scene: dict[str, Any] = {
            "task": task,
            "split": split,
            "objects": objects,
            "image_size": image_size,
        }
        self.env = ArmEnv(**self.scene)
        context = multiprocessing.get_context("spawn")
        self.shared = context.RawArray("d", HEAD + self.env.model.nq)
        self._pipe, theirs = context.Pipe()
        self._server = context.Process(
            target=serve, args=(objects[0], image_size, self.shared, theirs), daemon=True
        )
        self._server.start()
        theirs.close()
        self.address: str = self._wait("start")
        self.camera = CallableCamera(self.render)
        self._closed_at_start = False

    @property
    def pid(self) -> int:
        """The server's process."""
        return int(self._server.pid or 0)

    def _wait(self, what: str) -> Any:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if self._pipe.poll(0.05):
                return self._pipe.recv()
            if not self._server.is_alive():
                break
        raise EnvError(f"The twin's server did not {what}: is port 1337 of 127.0.0.x free?")

    def reset(self, seed: int, variant: str = "default") -> list[SubGoal]:
        """Begin the episode of `seed`; whoever was connected to the arm is disconnected.

        Returns:
            The sub-goals, as `ArmEnv.sub_goals` makes them.
        """
        self.env.reset(seed=seed)
        goals = self.env.sub_goals(variant)
        model, data = self.env.model, self.env.data
        size = model.geom_size[model.geom("object").id].copy()
        self._pipe.send(Start(data.qpos.copy(), size, self.env.arm.closed))
        self._wait("begin an episode")
        return goals

    @staticmethod
    def choose(goals: list[SubGoal], variant: str) -> list[SubGoal]:
        """A variant of the default sub-goals, as `ArmEnv.sub_goals` has it.

        Raises:
            TaskError: unknown variant.
        """
        if variant not in ("default", "three", "one"):
            raise TaskError(f"Unknown sub-goal variant {variant!r}; known: default, three, one")
        if variant == "three":
            goals = [goal for goal in goals if goal.name != "lifted"]
        return goals[-1:] if variant == "one" else goals

    def order_reflex(self) -> None:
        """Let the arm answer its motion with a collision reflex."""
        self._pipe.send("reflex")
        self._wait("abort")

    def render(self) -> Image:
        """The left camera's picture now [H, W, 3]."""
        sync(self.env, self.shared)
        return self.env.renderer.render(self.env.data, "left")

    def info(self, *, closed: bool) -> dict[str, Any]:
        """What `ArmEnv.step` tells: success, places [m], holding.

        Args:
            closed: whether the gripper was last told to close.
        """
        sync(self.env, self.shared)
        self.env.arm.closed = closed
        return self.env.info()

    def close(self) -> None:
        """End the server and free the renderer."""
        self._pipe.close()
        self._server.join(2.0)
        if self._server.is_alive():
            self._server.kill()
            self._server.join()
        self.env.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
