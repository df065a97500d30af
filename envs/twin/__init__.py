"""Simulated scene served through libfranka's protocol. Requires the extra `twin`."""

from envs.twin.twin import Twin

__all__ = ["Twin"]
