"""`worldmodel models`: the published models, their sizes and licences."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldmodel.checkpoints import registry


@dataclass
class Options:
    """Options of `worldmodel models`."""

    out: str = field(default="", metadata={"help": "folder for summary.json (empty: none)"})


def rows() -> list[dict[str, Any]]:
    """One row per name; `cached_bytes` is 0 where the file has not been fetched."""
    found = []
    for name, model in registry.REGISTRY.items():
        path = registry.local_path(name)
        found.append(
            {
                "name": name,
                "encoder": model.size,
                "encoder_parameters": registry.num_parameters(name),
                "image_size": model.image_size,
                "num_frames": model.num_frames,
                "action_conditioned": model.is_action_conditioned,
                "licence": model.licence,
                "url": model.urls[0],
                "path": str(path),
                "cached_bytes": path.stat().st_size if path.is_file() else 0,
            }
        )
    return found


def run(options: Options) -> int:
    """Print the table."""
    table = rows()
    print(f"{'name':24s} {'encoder':>12s} {'params':>7s}  {'input':12s} {'licence':12s} cached")
    for row in table:
        size = f"{row['image_size']} px x {row['num_frames']}"
        cached = f"{row['cached_bytes'] / 1e9:.1f} GB" if row["cached_bytes"] else "-"
        kind = " + actions" if row["action_conditioned"] else ""
        print(
            f"{row['name']:24s} {row['encoder']:>12s} {row['encoder_parameters'] / 1e6:6.0f}M  "
            f"{size:12s} {row['licence']:12s} {cached}{kind}"
        )
    print(f"cache: {registry.cache_folder()} (WORLDMODEL_CACHE)")
    if options.out:
        folder = Path(options.out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").write_text(json.dumps(table, indent=2), encoding="utf-8")
    return 0
