"""A handle of a process that never means another process (Linux pidfd).

The number of a process that has ended may be given to a new one. A signal sent by number may then
hit a stranger.
"""

from __future__ import annotations

import os
import select
import signal
from multiprocessing import reduction
from typing import Protocol


class _Inherited(Protocol):
    """A file descriptor on its way to a child process."""

    def detach(self) -> int:
        """Return the descriptor in the child process."""


class ProcessHandle:
    """Handle of a child process of this one; processes that this one spawns may receive it.

    Args:
        pid: PID of a child that has not been waited for, so that its number is still its own.
    """

    def __init__(self, pid: int) -> None:
        self.fd = os.pidfd_open(pid)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (reduction.DupFd(self.fd),)

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return not select.select([self.fd], [], [], 0.0)[0]

    def kill(self) -> None:
        """End the process at once.

        Raises:
            ProcessLookupError: It has ended already.
        """
        signal.pidfd_send_signal(self.fd, signal.SIGKILL)

    def close(self) -> None:
        """Release the handle; the process is not affected."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _rebuild(inherited: _Inherited) -> ProcessHandle:
    handle = ProcessHandle.__new__(ProcessHandle)
    handle.fd = inherited.detach()
    return handle
