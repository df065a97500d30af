"""`worldmodel models`: list published models, their sizes and licences."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `worldmodel models`."""

    out: str = ""
    """Output folder for summary.json (empty: none)."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A published model."""

    name: str
    encoder: str
    encoder_parameters: int
    image_size: int
    """Side of the input images [px]."""
    num_frames: int
    """Number of frames per clip."""
    action_conditioned: bool
    probe: bool
    """Whether the file holds an attentive probe."""
    licence: str
    url: str
    path: str
    """Path of the file in the cache."""
    cached_bytes: int
    """Size of the cached file; 0 if it has not been downloaded."""

    def line(self) -> str:
        """Return the row as text."""
        size = f"{self.image_size} px x {self.num_frames}"
        cached = f"{self.cached_bytes / 1e9:.1f} GB" if self.cached_bytes else "-"
        kind = " + actions" if self.action_conditioned else " probe" if self.probe else ""
        return (
            f"{self.name:30s} {self.encoder:>12s} {self.encoder_parameters / 1e6:6.0f}M  "
            f"{size:12s} {self.licence:12s} {cached}{kind}"
        )


def rows() -> list[Row]:
    """List the published models."""
    from worldmodel.checkpoints import registry

    found = []
    for name, model in (registry.REGISTRY | registry.PROBES).items():
        path = registry.local_path(name)
        found.append(
            Row(
                name=name,
                encoder=model.size,
                encoder_parameters=registry.num_parameters(name),
                image_size=model.image_size,
                num_frames=model.num_frames,
                action_conditioned=model.is_action_conditioned,
                probe=name in registry.PROBES,
                licence=model.licence,
                url=model.url,
                path=str(path),
                cached_bytes=path.stat().st_size if path.is_file() else 0,
            )
        )
    return found


def run(options: Options) -> int:
    """Print the table."""
    from worldmodel.atomic_io import write_json
    from worldmodel.data.cache import cache_root

    table = rows()
    print(f"{'name':30s} {'encoder':>12s} {'params':>7s}  {'input':12s} {'licence':12s} cached")
    for row in table:
        print(row.line())
    print(f"cache: {cache_root()} (WORLDMODEL_CACHE), and that of Hugging Face (HF_HOME)")
    if options.out:
        write_json(Path(options.out) / "summary.json", [asdict(row) for row in table])
    return 0
