"""The simulated scene behind libfranka's own protocol. Requires the extra `twin`."""

from envs.twin.twin import Twin

__all__ = ["Twin"]
