"""A small set of labelled videos and a small random encoder, for tests of probes."""

from pathlib import Path

import av
import numpy as np
import torch

from worldmodel.checkpoints.io import save
from worldmodel.models.config import EncoderConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import VideoEncoder

SMALL = EncoderConfig(image_size=(32, 32), embed_dim=24, depth=1, num_heads=2)


def make_video(path: Path, label: int, generator: np.random.Generator) -> None:
    """Write eight noisy frames: dark, or bright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(8):
            image = generator.integers(160 * label, 96 + 160 * label, (48, 64, 3))
            frame = av.VideoFrame.from_ndarray(image.astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_set(root: Path, train: int = 10, val: int = 4) -> Path:
    """Write two lists with so many videos of each of two classes, and two unusable ones each."""
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        lines = []
        for i in range(2 * count):
            name = f"{split}/clip {i}.mp4"
            make_video(root / name, i % 2, generator)
            lines.append(f"{name} {i % 2}")
        (root / split / "broken.mp4").write_bytes(b"\0" * 50)
        lines += [f"{split}/broken.mp4 0", f"{split}/gone.mp4 1"]
        (root / f"{split}.txt").write_text("\n".join(lines))
    torch.manual_seed(0)
    save(root / "encoder.safetensors", VideoEncoder.of(VisionTransformer(SMALL)))
    return root
