"""What the commands do with `shard=` and `shards=`."""

from __future__ import annotations

from planning.shard_options import ShardOptions
from worldmodel.shards import Shard


def chosen_shard(part: ShardOptions) -> Shard | None:
    """Return the shard that a run makes; None for the whole work."""
    return None if part.shard is None else Shard(number=part.shard, count=part.shards)
