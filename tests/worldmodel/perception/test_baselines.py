"""DINOv2 and VideoMAE in `features` and `probe`: transformers' own numbers; no surprise."""

import h5py
import numpy as np
import pytest
import torch

from planning.cli.app import main
from worldmodel.data.video import VideoFrames
from worldmodel.data.writers.video import write_video

transformers = pytest.importorskip("transformers")
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32}
FRAMES = 4


@pytest.fixture(scope="module", params=["dinov2", "videomae"])
def theirs(request, tmp_path_factory):
    torch.manual_seed(0)
    if request.param == "dinov2":
        config = transformers.Dinov2Config(**SIZES, patch_size=8, initializer_range=0.2)
        model = transformers.Dinov2Model(config)
    else:
        config = transformers.VideoMAEConfig(
            **SIZES, patch_size=8, num_frames=FRAMES, initializer_range=0.2, use_mean_pooling=False
        )
        model = transformers.VideoMAEModel(config)
    folder = tmp_path_factory.mktemp(request.param)
    model.eval().save_pretrained(folder)
    return folder, model


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    generator = np.random.default_rng(0)
    for label in ("dark", "light"):
        for number in range(4):
            low = 140 * (label == "light")
            frames = generator.integers(low, low + 100, (FRAMES, 32, 32, 3)).astype(np.uint8)
            write_video(folder / label / f"{number}.mp4", frames, header_fps=4)
    return folder


@torch.no_grad()
def test_features_are_those_of_transformers(theirs, videos, tmp_path):
    folder, model = theirs
    out = tmp_path / "features.h5"
    words = [f"videos={videos}", f"model=hf:{folder}", f"num_frames={FRAMES}", "dtype=float32"]
    assert main(["features", *words, "transform=squeeze", "device=cpu", f"out={out}"]) == 0
    frames = VideoFrames(videos / "dark" / "1.mp4", FRAMES).read(np.arange(FRAMES))
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    mean, std = (
        torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    pixels = (pixels - mean) / std
    if "videomae" in type(model).__name__.lower():
        wanted = model(pixels[None]).last_hidden_state[0]
    else:
        wanted = model(pixels).last_hidden_state[:, 1:].flatten(0, 1)
    with h5py.File(out) as file:
        found = torch.from_numpy(file["dark/1.mp4"]["features"][0])
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=0)


def test_a_probe_learns_on_them_and_surprise_is_refused(theirs, videos, tmp_path, capsys):
    folder, _ = theirs
    clips = [f"clips.num_frames={FRAMES}", "frame_step=1", "num_segments=1", "num_views=1"]
    words = [f"train={videos}", f"val={videos}", f"encoder=hf:{folder}", *clips, "num_heads=2"]
    words += ["depth=1", "epochs=12", "batch_size=4", "lr=3e-3", "weight_decay=0.01"]
    assert main(["probe", "train", *words, "device=cpu", f"out={tmp_path}/probe"]) == 0
    assert "top-1 1.000" in capsys.readouterr().out
    words = [f"probe={tmp_path}/probe", f"videos={videos}/light", "top=1", "device=cpu"]
    assert main(["probe", "predict", *words]) == 0
    assert capsys.readouterr().out.count("light\n") == 4
    assert main(["surprise", "benchmark=grasp", f"data={videos}", f"model=hf:{folder}"]) == 2
    assert "without a masked predictor" in capsys.readouterr().err
