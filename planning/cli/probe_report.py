"""What the probe commands print about items that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping


def print_rejected(name: str, rejected: Mapping[str, str]) -> None:
    """Print how many items of a set were rejected, and why."""
    if rejected:
        print(f"rejected {len(rejected)} of {name}:")
    for item, reason in rejected.items():
        print(f"  {item}: {reason}")
