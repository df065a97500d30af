"""DINOv2 and VideoMAE in `features`, `probe` and `surprise`: transformers' own numbers."""

import h5py
import numpy as np
import pytest
import torch

from planning.cli.app import main
from worldmodel.checkpoints.backbones import load_transformers_encoder
from worldmodel.data.video import VideoFrames
from worldmodel.data.writers.video import write_video
from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.perception.surprise.compared import load_compared_model
from worldmodel.perception.surprise.measure import (
    SurpriseConfig,
    normalise_pixels,
    predict_rest,
    video_surprises,
)

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


def test_a_probe_learns_on_them(theirs, videos, tmp_path, capsys):
    folder, _ = theirs
    clips = [f"clips.num_frames={FRAMES}", "frame_step=1", "num_segments=1", "num_views=1"]
    words = [f"train={videos}", f"val={videos}", f"encoder=hf:{folder}", *clips, "num_heads=2"]
    words += ["depth=1", "epochs=12", "batch_size=4", "lr=3e-3", "weight_decay=0.01"]
    assert main(["probe", "train", *words, "device=cpu", f"out={tmp_path}/probe"]) == 0
    assert "top-1 1.000" in capsys.readouterr().out
    words = [f"probe={tmp_path}/probe", f"videos={videos}/light", "top=1", "device=cpu"]
    assert main(["probe", "predict", *words]) == 0
    assert capsys.readouterr().out.count("light\n") == 4


WINDOW = SurpriseConfig(num_frames=FRAMES, contexts=(2,), stride=1)


def moving(seed=0, frames=FRAMES):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (frames, 32, 32, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("normalised", [True, False])
@torch.no_grad()
def test_the_surprise_of_videomae_is_the_error_of_its_own_decoder(normalised, tmp_path):
    torch.manual_seed(1)
    config = transformers.VideoMAEConfig(
        **SIZES,
        patch_size=8,
        num_frames=FRAMES,
        initializer_range=0.2,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        norm_pix_loss=normalised,
    )
    theirs = transformers.VideoMAEForPreTraining(config).eval()
    theirs.save_pretrained(tmp_path)
    model = load_compared_model(str(tmp_path))
    pixels = normalise_pixels(moving().permute(3, 0, 1, 2)[None], torch.zeros(()))
    hidden = (torch.arange(32) >= 16)[None]
    wanted = theirs(pixels.transpose(1, 2), bool_masked_pos=hidden)
    found = predict_rest(model, pixels, model.target_encoder(pixels), 2, model.adapted(WINDOW))
    torch.testing.assert_close(found.predicted, wanted.logits, atol=2e-5, rtol=0)
    loss = (found.predicted - found.targets).square().mean()
    torch.testing.assert_close(loss, wanted.loss, atol=2e-5, rtol=0)
    with pytest.raises(ConfigError, match="image_size=48"):
        load_compared_model(str(tmp_path), 48)
    long = model.adapted(SurpriseConfig(num_frames=8, contexts=(2,)))
    with pytest.raises(ConfigError, match="too long"):
        video_surprises(model, moving(frames=8), long)


def test_a_still_video_does_not_surprise_dinov2_and_videomae_needs_its_decoder(theirs, tmp_path):
    folder, network = theirs
    if "videomae" in type(network).__name__.lower():
        with pytest.raises(CheckpointError, match="lacks the decoder"):
            load_compared_model(str(folder))
        return
    with pytest.raises(ConfigError, match="a multiple of 8"):
        load_compared_model(str(folder), 44)
    model = load_compared_model(str(folder), 32)
    options = model.adapted(SurpriseConfig(num_frames=FRAMES, contexts=(1, 2)))
    still = video_surprises(model, moving()[:1].expand(FRAMES, -1, -1, -1), options)
    assert max(float(row.max()) for row in still) < 1e-5
    assert float(video_surprises(model, moving(), options)[0]) > 0.1
    changed = moving()
    changed[2:] = moving(1)[2:]
    tokens = load_transformers_encoder(str(folder)).tokens_of(
        normalise_pixels(changed.permute(3, 0, 1, 2)[None], torch.zeros(()))
    )
    normal = torch.nn.functional.layer_norm(tokens[0], tokens.shape[-1:]).unflatten(0, (FRAMES, -1))
    wanted = (normal[2:] - normal[1]).abs().mean()
    torch.testing.assert_close(
        video_surprises(model, changed, options)[1][0], wanted, atol=2e-5, rtol=0
    )


def test_the_command_measures_them(theirs, tmp_path, capsys):
    folder, network = theirs
    if "videomae" in type(network).__name__.lower():
        transformers.VideoMAEForPreTraining(network.config).save_pretrained(tmp_path / "mae")
        folder = tmp_path / "mae"
    for number, kind in enumerate(("P", "IP")):
        path = tmp_path / "set" / "level2" / f"{kind}_Gravity" / "0.mp4"
        write_video(path, moving(number, 8).numpy(), header_fps=4)
    words = ["surprise", "benchmark=grasp", f"data={tmp_path}/set", f"model=hf:{folder}", "step=1"]
    words += [f"num_frames={FRAMES}", "contexts=2", "device=cpu", f"out={tmp_path}/out"]
    assert main(words) == 0
    assert "AUROC" in capsys.readouterr().out
    assert main([*words, "num_heads=2"]) == 2
    assert "knows its heads" in capsys.readouterr().err
