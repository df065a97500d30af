"""Watch the closing gripper: wait for slow fingers, and notice when they closed on nothing.

Skills rise right after they close, because the simulated fingers close within an action. Fingers
that still move an action later are slow, and may have missed what they should have gripped. From
then on the agent holds the arm until they are still, and leaves a grasp that holds nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STILL = 0.02
"""Change of the closedness during an action below which the fingers are still."""
EMPTY = 0.97
"""Closedness above which there is nothing between the fingers."""
LONGEST = 4
"""Number of actions of the longest wait; fingers at 0.1 m/s need three at most."""


class GripperWatch:
    """Learns within an episode whether the gripper is slow, and tells when to wait for it."""

    def __init__(self) -> None:
        self.is_slow = False
        self._closed: float | None = None
        self._moved = False
        self._age: int | None = None
        self._waited = 0

    def look(self, closedness: float) -> None:
        """Note the measured closedness, 0 open to 1 closed; called once before each action."""
        self._moved = self._closed is not None and abs(closedness - self._closed) > STILL
        self._closed = closedness
        if self._age == 2:
            self.is_slow |= self._moved

    @property
    def must_wait(self) -> bool:
        """Whether the arm should hold still now."""
        return self._age == 1 and self.is_slow and self._moved and self._waited < LONGEST

    @property
    def is_empty(self) -> bool:
        """Whether slow fingers have closed on nothing.

        Fast ones may be those of a gripper whose state is 0 or 1, also with an object.
        """
        empty = self._closed is not None and self._closed > EMPTY
        return self.is_slow and self._age is not None and self._age >= 2 and empty

    def waited(self) -> None:
        """Note that the arm was held still."""
        self._waited += 1

    def sent(self, action: NDArray[np.float32]) -> None:
        """Note an action [7] of a skill that was sent; its command is -1, 0 or 1."""
        if action[6] > 0:
            self._age, self._waited = 1, 0
        elif action[6] < 0:
            self._age = None
        elif self._age is not None:
            self._age += 1
