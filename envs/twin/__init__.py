"""The simulated scene behind libfranka's own protocol (extra `twin`)."""

from envs.twin.twin import Twin

__all__ = ["Twin"]
