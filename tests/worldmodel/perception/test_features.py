import json
from dataclasses import replace
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from planning.cli.app import main
from worldmodel.checkpoints.io import save
from worldmodel.errors import ConfigError, DataError, ShapeError
from worldmodel.evaluation.energy_grid import energy_grid, grid_actions
from worldmodel.models.config import EncoderConfig, PredictorConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.models.model_config import ModelConfig
from worldmodel.models.world_model import WorldModel
from worldmodel.perception.features import extract as features
from worldmodel.perception.features.extract import FeatureConfig, find_videos, write_features
from worldmodel.specs import ObservationSpec

FRANKA = Path(__file__).parents[2] / "golden" / "franka_example_traj.npz"
SMALL = EncoderConfig(image_size=(32, 32), embed_dim=24, depth=1, num_heads=2)


def video(path, frames=20, fps=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(len(path.name))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(frames):
            image = generator.integers(256, size=(48, 64, 3), dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VideoEncoder.of(VisionTransformer(SMALL))


@pytest.fixture
def world():
    torch.manual_seed(0)
    config = ModelConfig(
        encoder=SMALL,
        predictor=PredictorConfig(
            grid=(2, 2), encoder_dim=24, embed_dim=24, depth=1, num_heads=2, num_frames=4
        ),
        observation=ObservationSpec(image_size=SMALL.image_size),
    )
    return WorldModel.from_config(config).eval()


CONFIG = FeatureConfig(num_frames=4, fps=4.0, dtype="float32")


def test_images_are_clips_of_one_frame(model, tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(256, size=(40, 48, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "torn.jpg").write_bytes(b"not an image")
    image_model = VideoEncoder.of(
        VisionTransformer(
            replace(SMALL, num_frames=1, tubelet_size=1, patch_size=8, position="sincos_2d")
        )
    )
    for name, chosen in (("video", model), ("image", image_model)):
        out = tmp_path / f"{name}.h5"
        result = write_features(tmp_path / "in", out, chosen, name, CONFIG)
        assert "cannot be read" in result.rejected["torn.jpg"]
        with h5py.File(out) as file:
            found = file["a.png"]["features"][:]
            assert file["a.png"]["times_s"].shape == (1, 1)
        frames = chosen.preprocess(torch.from_numpy(pixels)[None])
        wanted = chosen.frames_of(chosen.pixels(frames)).detach().numpy()
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_clips_are_sampled_encoded_and_stored(tmp_path, model):
    video(tmp_path / "in" / "a.mp4")
    video(tmp_path / "in" / "sub" / "b.mp4", frames=5)
    result = write_features(tmp_path / "in", tmp_path / "f.h5", model, "m", CONFIG)
    assert (result.videos, result.clips, result.rejected) == (2, 3, {})
    with h5py.File(tmp_path / "f.h5") as file:
        group = file["a.mp4"]
        assert group["features"].shape == (2, 2 * 2 * 2, 24)
        np.testing.assert_allclose(group["times_s"][0], [0, 0.25, 0.5, 0.75], atol=1e-3)
        clip, _ = next(features.clips(tmp_path / "in" / "a.mp4", CONFIG))
        pixels = features.Preprocess("published", (32, 32))(torch.from_numpy(clip))
        np.testing.assert_allclose(group["features"][0], model.encode_clip(pixels[None])[0])
        short = file["sub/b.mp4"]["times_s"][:]  # 3 frames at 4 fps, the last one repeated
        np.testing.assert_allclose(short, [[0, 0.25, 0.5, 0.5]], atol=1e-3)


def test_a_stopped_run_goes_on_and_ends_the_same(tmp_path, model, monkeypatch):
    for name in "abc":
        video(tmp_path / "in" / f"{name}.mp4")
    write_features(tmp_path / "in", tmp_path / "whole.h5", model, "m", CONFIG)
    encoded = []
    true_encode = features.encode

    def stop_at_fourth(*given):
        encoded.append(1)
        if len(encoded) == 4:
            raise KeyboardInterrupt
        return true_encode(*given)

    monkeypatch.setattr(features, "encode", stop_at_fourth)
    with pytest.raises(KeyboardInterrupt):
        write_features(tmp_path / "in", tmp_path / "f.h5", model, "m", CONFIG)
    result = write_features(tmp_path / "in", tmp_path / "f.h5", model, "m", CONFIG)
    assert result.skipped == 1
    assert len(encoded) == 4 + 3  # nothing that was stored is encoded again
    with h5py.File(tmp_path / "f.h5") as file, h5py.File(tmp_path / "whole.h5") as whole:
        for name in whole:
            assert np.array_equal(file[name]["features"], whole[name]["features"])


def test_bad_videos_are_named_and_the_rest_is_written(tmp_path, model):
    video(tmp_path / "in" / "a.mp4")
    (tmp_path / "in" / "b.mp4").write_bytes(b"no video")
    result = write_features(tmp_path / "in", tmp_path / "f.h5", model, "m", CONFIG)
    assert list(result.rejected) == ["b.mp4"]
    with pytest.raises(DataError, match="none of 1"):
        write_features(tmp_path / "in" / "b.mp4", tmp_path / "g.h5", model, "m", CONFIG)
    other = VideoEncoder.of(VisionTransformer(SMALL))
    with pytest.raises(ConfigError, match=r"model_hash.*another out"):
        write_features(tmp_path / "in", tmp_path / "f.h5", other, "m", CONFIG)
    (tmp_path / "torn.h5").write_bytes(b"no hdf5")
    with pytest.raises(DataError, match="not an HDF5 file"):
        write_features(tmp_path / "in", tmp_path / "torn.h5", model, "m", CONFIG)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no video"):
        write_features(tmp_path / "none", tmp_path / "f.h5", model, "m", CONFIG)


def test_command_features_with_a_world_model(tmp_path, world, capsys):
    save(tmp_path / "m.safetensors", world)
    video(tmp_path / "a.mp4")
    words = [f"videos={tmp_path / 'a.mp4'}", f"out={tmp_path / 'f.h5'}", "num_frames=2"]
    assert main(["features", *words, f"model={tmp_path / 'm.safetensors'}"]) == 0
    assert "clips of 1 videos" in capsys.readouterr().out
    with h5py.File(tmp_path / "f.h5") as file:
        assert file["a.mp4"]["features"].shape[1:] == (2 * 4, 24)
        assert file["a.mp4"]["features"].dtype == np.float16
    assert main(["features", f"videos={tmp_path / 'x'}", f"out={tmp_path / 'f.h5'}"]) == 2


def test_clips_of_the_wrong_kind_say_the_mend(model):
    with pytest.raises(ShapeError, match="BGR"):
        model.encode_clip(torch.rand(1, 2, 32, 32, 3))
    with pytest.raises(ShapeError, match="batch axis"):
        model.encode_clip(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))


def test_grid_is_symmetric_and_holds_no_move():
    values, planes = grid_actions(5, 0.075)
    assert torch.equal(values, -values.flip(0))
    assert set(planes) == {"xy", "xz", "yz"}
    for actions in planes.values():
        assert torch.equal(actions, -actions.flip(0))
        assert not actions[12].any()
        assert not actions[:, 3:].any()
    for bad in ((4, 0.1), (1, 0.1), (5, 0.0)):
        with pytest.raises(ConfigError):
            grid_actions(*bad)


def test_energy_is_that_of_each_action_alone(world):
    data = np.load(FRANKA)
    pixels = features.Preprocess("droid", (32, 32))(torch.from_numpy(data["observations"][0]))
    states = torch.from_numpy(data["states"][0])
    found = energy_grid(world, pixels, states, num_points=3, batch_size=4)
    z = world.encode(pixels)
    action = torch.zeros(1, 1, 7)
    action[..., 0], action[..., 2] = -0.075, 0.075
    alone = (world.unroll(z[:1], states[:1], action)[:, 0] - z[1:]).abs().mean()
    torch.testing.assert_close(found.planes["xz"][0, 2], alone, atol=1e-5, rtol=0)
    assert found.best_energy == min(float(p.min()) for p in found.planes.values())
    middles = {round(float(p[1, 1]), 6) for p in found.planes.values()}
    assert middles == {round(found.still_energy, 6)}


def test_command_inspect_energy(tmp_path, world, capsys):
    save(tmp_path / "m.safetensors", world)
    words = ["inspect", "energy", f"model={tmp_path / 'm.safetensors'}", f"out={tmp_path / 'e'}"]
    assert main([*words, f"trajectory={FRANKA}", "grid=3"]) == 0
    assert "true move" in capsys.readouterr().out
    summary = json.loads((tmp_path / "e" / "summary.json").read_text())
    assert np.shape(summary["planes"]["yz"]) == (3, 3)
    states = np.load(FRANKA)["states"][0]
    np.testing.assert_allclose(summary["true_action"][:3], (states[1] - states[0])[:3], atol=1e-6)
    assert (tmp_path / "e" / "energy.png").stat().st_size > 10_000
    assert main([*words, f"trajectory={FRANKA}", "last=5"]) == 2
    assert main([*words, "trajectory=nothing.npz"]) == 2
    assert main(words) == 2


class Particular(VideoEncoder):
    """An encoder as of a user's class, which fails on black frames and overflows on white ones."""

    def encode_clip(self, clip_BTHWC):
        level = float(clip_BTHWC.float().mean())
        if level == 0:
            raise ZeroDivisionError("nothing is seen")
        return super().encode_clip(clip_BTHWC) * (1e30 if level == 255 else 1)


def test_what_an_encoder_of_ones_own_fails_on_is_a_reject(tmp_path, model):
    for name, level in (("black", 0), ("grey", 90), ("white", 255)):
        Image.fromarray(np.full((40, 40, 3), level, np.uint8)).save(tmp_path / f"{name}.png")
    particular = Particular(model.config, model.backbone).eval()
    done = write_features(tmp_path, tmp_path / "out.h5", particular, "own", FeatureConfig())
    assert done.videos == 1
    assert "encoder_failed: " in done.rejected["black.png"]
    assert "ZeroDivisionError: nothing is seen" in done.rejected["black.png"]
    assert "not finite as float16: use dtype=float32" in done.rejected["white.png"]
    with h5py.File(tmp_path / "out.h5") as file:
        assert set(file) == {"grey.png"}


def test_files_of_other_kinds_are_counted(tmp_path, caplog):
    for name in ("a.MP4", "b.png", "c.gif", "d.GIF", "e.tiff", "notes.txt", "labels.csv"):
        (tmp_path / name).touch()
    assert [path.name for path in find_videos(tmp_path)] == ["a.MP4", "b.png"]
    assert "2 .gif, 1 .tiff left out" in caplog.text
