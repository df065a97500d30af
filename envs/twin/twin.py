"""Task scenes served through libfranka's protocol: a simulated arm for the real driver.

The physics run in the server process at 1 kHz; images are rendered here from the joint positions in
shared memory. Starts, goals and sub-goal images equal those of `ArmEnv` with the same seed, so that
episodes can be compared one by one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.arm_env import ArmEnv
from envs.errors import TaskError
from envs.goals import SubGoal
from envs.twin.messages import CLIENT_S, HEAD, Reflex, Start, wait_for
from robot.arm import Closing
from robot.cameras.camera import CallableCamera

Image = NDArray[np.uint8]


def sync(env: ArmEnv, shared: Any) -> None:
    """Copy the server's arm and object poses into `env`."""
    for _ in range(1000):
        before = shared[0]
        numbers = np.array(shared[:])
        if before == shared[0] and before % 2 == 0:
            break
    env.data.qpos[:] = numbers[HEAD:]
    env.data.qvel[:] = 0.0
    mujoco.mj_forward(env.model, env.data)


class Twin(Closing):
    """Context manager that serves a scene at `address`. Requires the extra `twin`.

    Args:
        task: As in `ArmEnv`.
        split: As in `ArmEnv`.
        objects: Tuple of one shape, which every object has; empty uses the task's own.
        image_size: Side of the camera's square images [px].
        client_s: Client silence after which a motion is aborted [s].

    Raises:
        TaskError: There is more than one object shape, or `client_s` is not above 0.
        TwinError: franky-sim is missing or has an unsupported version, or the server process
            failed.
    """

    def __init__(
        self,
        task: str = "reach",
        *,
        split: str = "train",
        objects: tuple[str, ...] = (),
        image_size: int = 128,
        client_s: float = CLIENT_S,
    ) -> None:
        if not 0 < client_s <= 3600:
            raise TaskError(f"client_s={client_s}; allowed: above 0, at most 3600 [s]")
        if len(objects) > 1:
            raise TaskError(f"The twin serves one object shape, not {list(objects)}: choose one")
        from envs.twin.server import serve  # imports franky-sim or raises with the install command

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
        world = self.env.world
        orders = (world.shapes, world.has_wall, image_size, self.shared, theirs, client_s)
        self._server = context.Process(target=serve, args=orders, daemon=True)
        self._server.start()
        theirs.close()
        try:
            self.address = self._wait("start")
        except BaseException:
            self.close()
            raise
        self.camera = CallableCamera(self.render)

    @property
    def pid(self) -> int:
        """PID of the server process."""
        return int(self._server.pid or 0)

    def _wait(self, what: str) -> str:
        return wait_for(self._pipe, self._server, what)

    def reset(self, seed: int, variant: str = "default") -> list[SubGoal]:
        """Begin the episode of `seed` and disconnect the arm's client.

        Args:
            seed: As in `ArmEnv.reset`.
            variant: As in `ArmEnv.sub_goals`.

        Returns:
            Sub-goals of the episode, as from `ArmEnv.sub_goals`.
        """
        self.env.reset(seed=seed)
        goals = self.env.sub_goals(variant)
        scales = tuple(item.scale for item in self.env.items)
        wall, closed = self.env.layout.wall, self.env.arm.closed
        self._pipe.send(Start(self.env.data.qpos.copy(), scales, wall, closed))
        self._wait("begin an episode")
        return goals

    def order_reflex(self) -> None:
        """Abort the arm's motion with a collision reflex."""
        self._pipe.send(Reflex())
        self._wait("abort the motion")

    def render(self) -> Image:
        """Render the left camera's image [H, W, 3]."""
        sync(self.env, self.shared)
        return self.env.render()

    def info(self, *, closed: bool) -> dict[str, Any]:
        """Return the entries of `ArmEnv.info`: success, positions [m], holding.

        Args:
            closed: Whether the gripper was last commanded to close.
        """
        sync(self.env, self.shared)
        self.env.arm.closed = closed
        return self.env.info()

    def close(self) -> None:
        """End the server and free the renderer."""
        with contextlib.suppress(OSError):
            self._pipe.close()
        self._server.join(2.0)
        if self._server.is_alive():
            self._server.kill()
            self._server.join()
        self.env.close()
