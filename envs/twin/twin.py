"""The task scenes behind libfranka's own protocol: a simulated arm that a real driver drives.

The physics run in the server's process at the arm's 1 kHz; pictures are rendered here, from the
joint positions in shared memory. Starts, goals and sub-goal images are those of `ArmEnv` with the
same seed, so that episodes can be compared one by one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from typing import Any, Self

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.arm_env import ArmEnv
from envs.errors import EnvError
from envs.goals import SubGoal, choose_sub_goals
from envs.twin.messages import CLIENT_S, HEAD, Reflex, Start, wait_for
from robot.cameras.camera import CallableCamera

Image = NDArray[np.uint8]


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
    """A scene served at `address`; a context manager. Requires the extra `twin`.

    Args:
        task: As in `ArmEnv`.
        split: As in `ArmEnv`.
        objects: One object shape.
        image_size: Side of the camera's square pictures [px].
        client_s: A client that is silent for this long [s] while the arm moves has its motion
            aborted.

    Raises:
        EnvError: franky-sim is missing or of another version, more than one object shape, or the
            server's process failed.
    """

    def __init__(
        self,
        task: str = "reach",
        *,
        split: str = "train",
        objects: tuple[str, ...] = ("cube",),
        image_size: int = 128,
        client_s: float = CLIENT_S,
    ) -> None:
        if len(objects) != 1:
            raise EnvError(f"The twin serves one object shape, not {list(objects)}: choose one")
        from envs.twin.server import serve  # imports franky-sim, or says how to install it

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
            target=serve, args=(objects[0], image_size, self.shared, theirs, client_s), daemon=True
        )
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
        """Id of the server's process."""
        return int(self._server.pid or 0)

    def _wait(self, what: str) -> str:
        return wait_for(self._pipe, self._server, what)

    def reset(self, seed: int, variant: str = "default") -> list[SubGoal]:
        """Begin the episode of `seed`; whoever is connected to the arm is disconnected.

        Args:
            seed: As in `ArmEnv.reset`.
            variant: As in `ArmEnv.sub_goals`.

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
        """Return a variant of the default sub-goals, as `ArmEnv.sub_goals` does.

        Raises:
            TaskError: Unknown variant.
        """
        return choose_sub_goals(goals, variant)

    def order_reflex(self) -> None:
        """Abort the arm's motion with a collision reflex."""
        self._pipe.send(Reflex())
        self._wait("abort the motion")

    def render(self) -> Image:
        """Render the left camera's picture [H, W, 3]."""
        sync(self.env, self.shared)
        return self.env.render()

    def info(self, *, closed: bool) -> dict[str, Any]:
        """Return what `ArmEnv.info` does: success, positions [m], holding.

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
