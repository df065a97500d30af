"""A decoder learns to show latents, and is refused by other encoders."""

import numpy as np
import pytest
import torch
from PIL import Image

from planning.cli.app import main
from worldmodel import load_world_model
from worldmodel.checkpoints.io import save
from worldmodel.checkpoints.picture_decoder import decoder_path, load_decoder, save_decoder
from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.models.picture_decoder import (
    PictureDecoder,
    PictureDecoderConfig,
    encoder_key,
    planes,
    salient_colour,
    shrink,
)
from worldmodel.training.checkpointing import CheckpointStore
from worldmodel.training.decoded import shown_steps, write_rollout_pictures
from worldmodel.training.decoder import DecoderData, fit_decoder, mean_error, pixel_weights


@pytest.fixture(scope="module")
def world():
    return load_world_model("default", "cpu")


def scenes(world, count, seed):
    """Frames with a bright square at a random place, and their tokens."""
    rng = np.random.default_rng(seed)
    frames = np.full((count, 128, 128, 3), 60, np.uint8)
    for frame, (row, column) in zip(frames, rng.integers(0, 96, (count, 2)), strict=True):
        frame[row : row + 32, column : column + 32] = (76, 220, 19)
    frames = torch.from_numpy(frames)
    return DecoderData(shrink(frames, 16), world.encode(frames), torch.arange(count))


@pytest.fixture(scope="module")
def trained(world):
    return fit_decoder(world, scenes(world, 200, 0), steps=150, batch_size=32)


def test_it_improves_over_the_mean_picture_on_unseen_frames(world, trained):
    found = mean_error(trained, scenes(world, 60, 1))
    assert found["error"] < 0.6 * found["mean_picture_error"]
    assert found["moving_error"] < 0.7 * found["moving_mean_picture_error"]


def test_training_is_reproducible_and_leaves_the_global_generator_alone(world):
    data = scenes(world, 40, 2)
    before = torch.get_rng_state()
    a, b = (fit_decoder(world, data, steps=3, batch_size=8, seed=5) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(a.decode(data.z_FND), b.decode(data.z_FND))


def test_a_resumed_fit_equals_an_uninterrupted_one(world, tmp_path, monkeypatch):
    monkeypatch.setattr("worldmodel.training.decoder.SAVE_EVERY", 2)
    data = scenes(world, 30, 4)
    settings = {"steps": 8, "batch_size": 8}

    def stop_at_the_fourth(_loss):
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt

    steps = []
    with pytest.raises(KeyboardInterrupt):
        fit_decoder(
            world, data, **settings, store=CheckpointStore(tmp_path), report=stop_at_the_fourth
        )
    resumed = fit_decoder(
        world, data, **settings, store=CheckpointStore(tmp_path), report=steps.append
    )
    assert len(steps) == 4 + 6  # the second step was saved
    whole = fit_decoder(world, data, **settings)
    assert torch.equal(whole.decode(data.z_FND), resumed.decode(data.z_FND))


def test_references_are_frames_of_the_same_sequence():
    empty = torch.zeros(7, 1, 1)
    data = DecoderData(empty, empty, torch.tensor([0, 0, 0, 2, 2, 5, 5]))
    index = torch.arange(7)
    assert data.references(index, torch.zeros(7)).tolist() == [0, 0, 0, 3, 3, 5, 5]
    assert data.references(index, torch.full((7,), 0.99)).tolist() == [2, 2, 2, 4, 4, 6, 6]


def test_small_coloured_things_have_the_largest_weights():
    frame = torch.full((1, 64, 64, 3), 100, dtype=torch.uint8)
    frame[0, :20, :20] = 160  # as light as the arm, and grey
    frame[0, 40:44, 40:44] = torch.tensor([160, 60, 60], dtype=torch.uint8)
    mean_3HW = torch.full((3, 64, 64), 100 / 255)
    weights_HW = pixel_weights(frame, mean_3HW)[0]
    assert weights_HW[60, 5] == pytest.approx(1, abs=0.01)
    assert weights_HW[41, 41] > 3 * weights_HW[:20, :20].max()
    found = salient_colour(planes(frame))[0, 3:] * 255
    assert found.tolist() == pytest.approx([160, 60, 60], abs=5)


def test_it_is_saved_small_and_loaded_again(world, trained, tmp_path):
    path = tmp_path / "m-decoder.safetensors"
    save_decoder(path, trained)
    again = load_decoder(path)
    z_BND = scenes(world, 5, 3).z_FND
    difference = again.decode(z_BND).int() - trained.decode(z_BND).int()
    assert difference.abs().max() <= 2  # float16
    assert again.fits(encoder_key(world))
    assert not again.fits(encoder_key(world).flip(-1))
    assert path.stat().st_size < 4e6
    with pytest.raises(CheckpointError, match="not a picture decoder"):
        load_decoder(decoder_path("default").with_name("default.safetensors"))


def test_paths_beside_models(tmp_path):
    assert decoder_path("default").name == "default-decoder.safetensors"
    assert decoder_path(tmp_path) == tmp_path / "model-decoder.safetensors"
    assert decoder_path(tmp_path / "a.safetensors") == tmp_path / "a-decoder.safetensors"


@pytest.mark.parametrize(("tokens", "size"), [(1, 64), (4, 32), (16, 16), (64, 64)])
def test_grids_of_tokens(tokens, size):
    config = PictureDecoderConfig(num_tokens=tokens, token_dim=8, image_size=size, channels=8)
    decoder = PictureDecoder(config)
    assert decoder.decode(torch.randn(2, tokens, 8)).shape == (2, size, size, 3)
    grey = decoder.decode(torch.randn(2, tokens, 8))
    assert grey.unique().tolist() in ([127], [128])  # the first picture is the mean picture


@pytest.mark.parametrize("wrong", [{"num_tokens": 3}, {"num_tokens": 9}, {"image_size": 48}])
def test_sizes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ConfigError):
        PictureDecoderConfig(**wrong)


def test_the_command_writes_the_decoder_and_examples(tmp_path, capsys):
    data = ["collect", "episodes=2", f"out={tmp_path}/data", "workers=1"]
    assert main(data) == 0
    words = ["train", "decoder", f"data={tmp_path}/data", f"val={tmp_path}/data", "count=20"]
    words += ["train_steps=2", "image_size=16", f"cache={tmp_path}/cache"]
    assert main([*words, f"file={tmp_path}/d.safetensors", f"out={tmp_path}/out"]) == 0
    assert load_decoder(tmp_path / "d.safetensors").config.image_size == 16
    assert Image.open(tmp_path / "out" / "examples.png").size == (12 * 16, 2 * 16)
    assert "moving_mean_picture_error" in capsys.readouterr().out


def test_decoded_rollouts_have_two_rows_a_clip_and_only_a_fitting_decoder(world, trained, tmp_path):
    frames = torch.from_numpy(np.full((2, 5, 128, 128, 3), 60, np.uint8))
    batch = {"frames": frames, "states": torch.zeros(2, 5, 7), "actions": torch.zeros(2, 4, 7)}
    model = tmp_path / "model.safetensors"
    save(model, world)
    save_decoder(tmp_path / "model-decoder.safetensors", trained)
    write_rollout_pictures(tmp_path, model, "", batch)
    picture = np.asarray(Image.open(tmp_path / "rollouts.png")).astype(int)
    side = trained.config.image_size
    assert picture.shape == (4 * side, 5 * side, 3)
    recorded, imagined = picture[:side], picture[side : 2 * side]
    assert np.array_equal(recorded[:, :side], imagined[:, :side])
    assert not np.array_equal(recorded, imagined)
    assert shown_steps(30)[-1] == 30
    assert len(shown_steps(30)) == 8

    trained.key_ND.add_(1)
    save_decoder(tmp_path / "model-decoder.safetensors", trained)
    trained.key_ND.sub_(1)
    write_rollout_pictures(tmp_path, model, "", batch)
    assert not (tmp_path / "rollouts.png").exists()


def test_the_shipped_decoder_is_small_and_fits_its_model():
    path = decoder_path("one_goal_labelled")
    assert path.stat().st_size < 3_000_000
    world = load_world_model("one_goal_labelled", "cpu")
    decoder = load_decoder(path)
    assert decoder.fits(encoder_key(world))
    assert decoder.config.image_size == 64
