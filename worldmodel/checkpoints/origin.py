"""Where a model came from: notes, licence and verdict, for its card."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldmodel.checkpoints import registry
from worldmodel.checkpoints.card import HUB_LICENCES
from worldmodel.checkpoints.container import read_description, read_json
from worldmodel.checkpoints.loading import RUN_FILES, embedded_path
from worldmodel.checkpoints.pretrained import cached_folder
from worldmodel.checkpoints.tensor_file import is_safetensors


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What is known of a model beside its weights."""

    notes: dict[str, str] = field(default_factory=dict)
    """Notes of the file's description."""
    licence: str = ""
    """Identifier of the hub; empty if it is not known."""
    findings: tuple[str, ...] = ()
    """Sentences of the verdict in the run's summary.json."""


def origin_of(name_or_path: str) -> Origin:
    """Collect what is known of a model that the loaders accept."""
    path = Path(name_or_path)
    if not path.exists() and registry.is_known(name_or_path):
        licence = registry.get(name_or_path).licence
        notes = {"source": f"{name_or_path}, {registry.get(name_or_path).url}", "licence": licence}
        return Origin(notes=notes, licence=HUB_LICENCES.get(licence, ""))
    if not path.exists():
        embedded = embedded_path(name_or_path)
        path = embedded if embedded.is_file() else cached_folder(name_or_path) or path
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        path /= next((name for name in RUN_FILES if (path / name).is_file()), RUN_FILES[0])
    ours = path.is_file() and is_safetensors(path)
    notes = (read_description(path) or {}).get("notes", {}) if ours else {}
    if not isinstance(notes, dict):
        notes = {}
    texts = {str(key): str(value) for key, value in notes.items()}
    return Origin(
        notes=texts,
        licence=HUB_LICENCES.get(texts.get("licence", ""), ""),
        findings=_findings(folder / "summary.json"),
    )


def _findings(summary: Path) -> tuple[str, ...]:
    """Return the sentences of a training run's verdict; none if there is no such summary."""
    verdict: Any = read_json(summary).get("verdict")
    found = verdict.get("findings") if isinstance(verdict, dict) else None
    rows = found if isinstance(found, list) else []
    return tuple(str(row["text"]) for row in rows if isinstance(row, dict) and "text" in row)
