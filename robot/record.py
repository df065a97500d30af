"""In-memory recording of an episode, from a driver or a simulator; writers turn it into files."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class Recording:
    """An episode in memory; every list has one entry per control step."""

    frames: dict[str, list[NDArray[np.uint8]]] = field(default_factory=dict)
    """Camera name (`left`, `right`, `wrist`) -> RGB frames [H, W, 3]."""
    states: list[Array] = field(default_factory=list)
    """Flange pose and closedness [7]."""
    joints: list[Array] = field(default_factory=list)
    """Joint positions [7, rad]; empty if unknown."""
    actions: list[Array] = field(default_factory=list)
    """Actions [7] that were sent; the last one is zero."""
    targets: list[Array] = field(default_factory=list)
    """Commanded flange pose and closedness [7]."""
    times_s: list[float] = field(default_factory=list)
    """Time of each step [s]."""
    objects: list[Array] = field(default_factory=list)
    """Positions of the first object's centre [3, m]; empty for real arms."""
    object_poses: list[Array] = field(default_factory=list)
    """Position [m] and yaw [rad] of each object [M, 4]; empty for real arms. For evaluation."""

    def add(
        self,
        *,
        frames: dict[str, NDArray[np.uint8]],
        state: Array,
        joints: Array | None = None,
        action: Array,
        target: Array,
        time_s: float,
        object_m: Array | None = None,
        object_poses: Array | None = None,
    ) -> None:
        """Append a control step."""
        for name, frame in frames.items():
            self.frames.setdefault(name, []).append(frame)
        self.states.append(state)
        self.actions.append(action)
        self.targets.append(target)
        self.times_s.append(time_s)
        if joints is not None:
            self.joints.append(joints)
        if object_m is not None:
            self.objects.append(object_m)
        if object_poses is not None:
            self.object_poses.append(object_poses)
