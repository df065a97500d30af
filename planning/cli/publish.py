"""`worldmodel publish`: write a model as a Hugging Face folder, and upload it if asked to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from planning.errors import PlanError
from planning.ranges import check_fields


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `worldmodel publish`."""

    model: str = "default"
    """Model of any kind: an embedded or published name, a file, a folder, or USER/NAME of the
    hub."""
    repo: str = ""
    """Repository of the hub that the folder is uploaded to, USER/NAME or USER/NAME@BRANCH (empty:
    none)."""
    private: bool = False
    """Whether the repository is private when it is created."""
    licence: str = ""
    """The licence's identifier on the hub, such as mit or cc-by-4.0 (empty: that of a published
    model, else none is stated)."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Data type of the written weights."""
    out: str = "runs/publish"
    """Output folder: config.json, model.safetensors, README.md, and the model's picture decoder if
    there is one."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.private and not self.repo:
            raise PlanError("private=true has no effect without repo=. Add repo=USER/NAME.")


def run(options: Options) -> int:
    """Write the folder, load it again, and upload it."""
    import torch

    from planning.apps.own_encoder import open_any, split_code
    from worldmodel.checkpoints import pretrained
    from worldmodel.checkpoints.origin import origin_of
    from worldmodel.checkpoints.picture_decoder import decoder_path

    if options.repo and not pretrained.REPOSITORY.fullmatch(options.repo):
        raise PlanError(f"repo={options.repo!r}; allowed: USER/NAME or USER/NAME@REVISION.")
    name, code = split_code(options.model)
    name = name or options.model
    origin = origin_of(name)
    model = open_any(options.model, "cpu", "float32")
    decoder = decoder_path(name)
    folder = pretrained.save_pretrained(
        model,
        Path(options.out),
        notes=origin.notes,
        licence=options.licence or origin.licence,
        findings=origin.findings,
        decoder=decoder if decoder.is_file() else None,
        dtype=getattr(torch, options.dtype),
        repository=options.repo or "USER/NAME",
    )
    open_any(f"{folder}+{code}" if code else str(folder), "cpu", "float32")  # it can be read back
    for path in (folder / name for name in pretrained.FILES if (folder / name).is_file()):
        print(f"{path} ({path.stat().st_size / 1e6:.3f} MB)")
    if options.repo:
        url = pretrained.push_folder(folder, options.repo, private=options.private)
        print(f"uploaded: {url}")
    print(f"load it with: worldmodel.from_pretrained({options.repo or options.out!r})")
    return 0
