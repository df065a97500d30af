"""Whether a model was trained on the simulated robot that it plans for."""

from __future__ import annotations

import logging

from worldmodel.checkpoints.loading import is_embedded

log = logging.getLogger(__name__)


def warn_of_embodiment(model: str, embodiment: str) -> None:
    """Log a warning if an embedded model plans for another robot than that of its training data.

    Args:
        model: Name, file or folder of the model.
        embodiment: Gripper and cameras of the scene: franka or droid.
    """
    if embodiment != "franka" and is_embedded(model):
        log.warning(
            "model=%s was trained on the Franka hand and its square images, and embodiment=%s has "
            "another gripper and other cameras, so it will do badly. Use embodiment=franka, or "
            "train a model on `worldmodel collect embodiment=%s` (docs/environments.md).",
            model,
            embodiment,
            embodiment,
        )
