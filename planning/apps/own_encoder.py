"""Frame encoders of users' classes."""

from __future__ import annotations

from planning.errors import PlanError
from planning.options import Device
from planning.plugins import is_own, is_reference, load, registered
from worldmodel.checkpoints.loading import resolve_device
from worldmodel.models.frame_encoder import FrameEncoder


def is_users_encoder(name: str) -> bool:
    """Return whether a name is `module:Class`, or that of another package's encoder."""
    return is_reference(name) or (name in registered("encoder") and not is_own("encoder", name))


def own_encoder(name: str, device: Device) -> FrameEncoder:
    """Create a frame encoder of a user's class, in evaluation mode.

    Raises:
        PlanError: it cannot be loaded, or is no frame encoder.
    """
    make = load("encoder", name)
    encoder = make() if callable(make) else make
    if not isinstance(encoder, FrameEncoder):
        raise PlanError(
            f"model={name} gives {type(encoder).__name__}, which is no "
            "worldmodel.models.frame_encoder.FrameEncoder. Derive it from that class."
        )
    return encoder.to(resolve_device(device)).eval()
