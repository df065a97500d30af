"""`worldmodel train decoder`: train a decoder that shows a model's latents as pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from planning.options import Device, Precision
from planning.ranges import between, check_fields


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `worldmodel train decoder`."""

    model: str = "default"
    """World model, which stays as it is: an embedded or published name, a file, or a folder."""
    data: str = "runs/data/train"
    """Folder of the episodes to train on."""
    val: str = "runs/data/val"
    """Folder of unseen episodes, on which the decoder is measured."""
    count: int = field(default=8000, metadata=between(2, 10_000_000, "frames"))
    """Maximum number of training frames; the measurement takes a tenth."""
    image_size: int = field(default=64, metadata=between(16, 256, "px"))
    """Height and width of the decoded pictures, a power of 2."""
    train_steps: int = field(default=3000, metadata=between(1, 10_000_000))
    """Maximum number of optimiser steps."""
    minutes: float = field(default=0.0, metadata=between(0, 100_000, "min"))
    """Maximum duration of the optimisation; 0 sets none."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Seed of the weights, the frames and the batches."""
    bf16: bool = False
    """Train under bfloat16 autocast: half the time on processors with AVX-512 bfloat16."""
    links: Literal["inside", "all"] = "inside"
    """Whether links in the data must stay inside the data set, or may lead anywhere (all, for your
    own links)."""
    rlds_fps: float = field(default=15.0, metadata=between(0.1, 1000, "Hz"))
    """Control rate of an RLDS data set, which stores no timestamps; DROID's is 15 Hz."""
    device: Device = "auto"
    """Device of the model and of the decoder's training."""
    precision: Precision = "auto"
    """Data type of the model's weights (auto: bfloat16 on CUDA devices that have it, else
    float32)."""
    cache: str = ""
    """Folder for decoded frames (empty: the default cache folder)."""
    file: str = ""
    """File of the decoder (empty: NAME-decoder.safetensors beside the model, where the reports find
    it)."""
    out: str = "runs/decoder"
    """Output folder for checkpoints, from which the same command resumes, summary.json, and
    examples.png (unseen frames above their decoded ones)."""

    def __post_init__(self) -> None:
        check_fields(self)


def run(options: Options) -> int:
    """Train, measure and write a decoder; print its errors beside those of the mean picture."""
    from tqdm import tqdm

    from planning.apps.own_encoder import open_world, split_code
    from planning.report.video import png_bytes
    from worldmodel.atomic_io import write_bytes, write_json
    from worldmodel.checkpoints.picture_decoder import decoder_path, save_decoder
    from worldmodel.training.checkpointing import CheckpointStore, step_of
    from worldmodel.training.decoder import (
        decoder_data,
        examples,
        fit_decoder,
        mean_error,
        open_frames,
    )

    world = open_world(options.model, options.device, options.precision)
    train, unseen = (
        decoder_data(
            world,
            open_frames(world, folder, options.cache, options.links, options.rlds_fps),
            count,
            options.image_size,
            seed=options.seed,
        )
        for folder, count in (
            (options.data, options.count),
            (options.val, max(1, options.count // 10)),
        )
    )
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    store = CheckpointStore(out / "checkpoints")
    newest = store.newest()
    done = 0 if newest is None else step_of(newest)
    with tqdm(total=options.train_steps, initial=done, desc="decoder", unit="step") as bar:

        def show(loss: float) -> None:
            bar.update(1)
            bar.set_postfix(loss=f"{loss:.4f}")

        decoder = fit_decoder(
            world,
            train,
            steps=options.train_steps,
            minutes=options.minutes,
            seed=options.seed,
            bf16=options.bf16,
            store=store,
            report=show,
        )
    found = mean_error(decoder, unseen)
    for name, value in found.items():
        print(f"{name:26s} {value:.2f}")
    file = Path(options.file) if options.file else decoder_path(split_code(options.model)[0])
    save_decoder(file, decoder)
    facts = {"model": options.model, "frames": len(train.z_FND), "seed": options.seed}
    write_json(out / "summary.json", facts | {"file": str(file)} | found)
    write_bytes(out / "examples.png", png_bytes(examples(decoder, unseen)))
    print(file)
    return 0
