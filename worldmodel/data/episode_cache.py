"""Opened episodes, kept up to a number of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from worldmodel.data.episode import Episode

MAX_BYTES = 2**29
"""Default bound on the episodes kept [bytes]."""


def size_of(episode: Episode) -> int:
    """Return the memory of an episode's arrays and encoded images [bytes]."""
    arrays = [episode.states_TS, episode.times_s, episode.moving_T, episode.joints_TJ]
    arrays += [episode.actions_TA, episode.objects_T3]
    arrays += [camera.extrinsics_TE for camera in episode.cameras.values()]
    frames = [getattr(camera.frames, "nbytes", 0) for camera in episode.cameras.values()]
    return sum(array.nbytes for array in arrays if array is not None) + sum(frames)


class EpisodeCache:
    """Open episodes by number; keep the last ones used, up to `max_bytes`.

    Threads may share it; two that ask for one episode at once may both open it.
    """

    def __init__(self, open_episode: Callable[[int], Episode], max_bytes: int = MAX_BYTES) -> None:
        self.open_episode, self.max_bytes = open_episode, max_bytes
        self.num_bytes = 0
        """Memory of the episodes kept [bytes]."""
        self._kept: OrderedDict[int, tuple[Episode, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, number: int) -> Episode:
        """Return an episode."""
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number][0]
        episode = self.open_episode(number)
        size = size_of(episode)
        with self._lock:
            if number not in self._kept:
                self._kept[number] = (episode, size)
                self.num_bytes += size
            while self.num_bytes > self.max_bytes:
                self.num_bytes -= self._kept.popitem(last=False)[1][1]
        return episode
