"""Project points of the scene into the image of a camera.

Shapes: N points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def project(camera_34: Array, points_N3: Array) -> Array:
    """Return image positions [N, 2] as fractions of width and height; NaN behind the camera.

    Args:
        camera_34: Camera matrix [3, 4] from homogeneous points of the base frame [m] to
            (u w, v w, w), with u, v from 0 (left, top) to 1 and w the depth [m].
        points_N3: Points in the base frame [m].
    """
    points_N4 = np.concatenate([points_N3, np.ones((len(points_N3), 1))], axis=1)
    image_N3 = points_N4 @ camera_34.T
    depth_N1 = np.where(image_N3[:, 2:] > 1e-6, image_N3[:, 2:], np.nan)
    return np.asarray(image_N3[:, :2] / depth_N1)
