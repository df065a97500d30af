"""Options of commands that can run as one of several shards; see `planning.options`."""

from __future__ import annotations

from dataclasses import dataclass, field

from planning.errors import PlanError
from planning.ranges import between, check_fields


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """Part of the work that this run does."""

    shard: int | None = field(default=None, metadata=between(0, 99_999))
    """Number of the shard that this run makes, from 0 (default: the whole work at once). A shard
    is written beside out, to OUT.shards; `worldmodel merge` joins all of them."""
    shards: int = field(default=1, metadata=between(1, 100_000))
    """Number of shards that the work is split into; -m 'shard=range(N)' makes all of them."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.shard is None and self.shards != 1:
            raise PlanError(
                f"shards={self.shards} has no effect without shard=. Give shard=0 to "
                f"shard={self.shards - 1}, or -m 'shard=range({self.shards})'."
            )
        if self.shard is not None and self.shard >= self.shards:
            raise PlanError(
                f"shard={self.shard} is out of range with shards={self.shards}. Allowed: 0 to "
                f"{self.shards - 1}."
            )
