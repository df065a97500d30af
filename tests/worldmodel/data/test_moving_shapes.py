import numpy as np
import pytest

from planning.cli.app import main
from worldmodel.data.moving_shapes import ShapeClips, stencils
from worldmodel.data.shape_options import EVENTS, LABELS, SHAPES, SPEED_PX, ShapeClipOptions
from worldmodel.data.video import inspect_video
from worldmodel.errors import ConfigError
from worldmodel.perception.probes.labelled_videos import read_class_folders
from worldmodel.perception.surprise.pair_sets import read_grasp


def test_a_clip_is_a_function_of_seed_and_index_alone():
    one, again = (ShapeClips(ShapeClipOptions(num_clips=64)) for _ in range(2))
    a, b = one.batch(np.array([5, 9])), again.batch(np.array([9, 5]))
    for name in a:
        np.testing.assert_array_equal(a[name][0], b[name][1])
    other = ShapeClips(ShapeClipOptions(num_clips=64, seed=1)).batch(np.array([5]))
    assert (other["frames"][0] != a["frames"][0]).mean() > 0.9
    assert one.content_hash() == again.content_hash()


def test_labels_tell_the_path_and_colour_tells_nothing():
    clips = ShapeClips(ShapeClipOptions(num_clips=500, num_frames=4, side=48))
    found = clips.batch(np.arange(300))
    assert found["frames"].shape == (300, 4, 48, 48, 3)
    assert found["frames"].dtype == np.uint8
    for name, classes in LABELS.items():
        assert set(found[name]) == set(range(len(classes)))
    middle = found["frames"].astype(np.float64).mean((1, 2, 3))
    assert np.abs(middle - 124).max() < 12  # values that were cut move the mean a little
    assert (found["position"] > 8 / 48 - 1e-6).all()
    assert (found["position"] < 40 / 48).all()


def test_the_picture_moves_by_the_labels():
    options = ShapeClipOptions(num_clips=200, num_frames=6)
    clips = ShapeClips(options)
    clips.grounds[:], clips.noise[:], clips.fills[:] = 0, 0, 40  # a bright shape on flat ground
    found = clips.batch(np.arange(120))
    even = ~np.isin(found["shape"], [SHAPES.index("triangle"), SHAPES.index("ell")])
    found = {name: values[even] for name, values in found.items()}  # turning moves no centre
    axis = np.arange(options.side)
    away = np.abs(
        found["frames"].astype(float) - np.median(found["frames"], (1, 2, 3))[:, None, None, None]
    ).sum(-1)
    weight = away / away.sum((2, 3), keepdims=True)
    x, y = (weight.sum(2) * axis).sum(-1), (weight.sum(3) * axis).sum(-1)
    moved = np.stack([x[:, -1] - x[:, 0], y[:, -1] - y[:, 0]], 1) / 5
    angle = found["direction"] * np.pi / 4
    ahead = moved[:, 0] * np.cos(angle) + moved[:, 1] * np.sin(angle)
    aside = moved[:, 1] * np.cos(angle) - moved[:, 0] * np.sin(angle)
    low, high = np.array(SPEED_PX)[found["speed"]].T
    assert (ahead > low - 0.5).all()
    assert (ahead < high + 0.5).all()
    assert np.abs(aside).max() < 0.6
    np.testing.assert_allclose(found["position"] * 40, np.stack([x[:, 3], y[:, 3]], 1), atol=1.5)


def test_stencils_are_different_shapes():
    bank = stencils()
    assert bank.min() == 0
    assert bank.max() == pytest.approx(1)
    areas = bank.sum((2, 3))
    assert (areas.std(1) < 0.06 * areas.mean(1)).all()  # turning keeps the area


def test_a_clip_too_long_for_its_frames_is_refused():
    with pytest.raises(ConfigError, match="fewer frames"):
        ShapeClipOptions(num_frames=40, side=40)


def test_an_event_changes_the_second_half_alone():
    clips = ShapeClips(ShapeClipOptions(num_clips=8, num_frames=8))
    whole, empty = clips.batch(np.array([3]))["frames"][0].astype(int), clips.empty_frames(3)
    for event in EVENTS:
        possible = empty.astype(int) if event == "appears" else whole
        broken = clips.broken_frames(3, event).astype(int)
        change = np.abs(broken - possible).max((1, 2, 3))
        assert change[4:].min() > 40
        assert change[:4].max() == 0


def test_a_shape_that_vanishes_and_one_that_appears_make_up_the_possible_clips():
    clips = ShapeClips(ShapeClipOptions(num_clips=8, num_frames=8))
    whole, empty = clips.batch(np.array([3]))["frames"][0], clips.empty_frames(3)
    gone, come = (clips.broken_frames(3, event) for event in ("vanishes", "appears"))
    assert np.array_equal(np.concatenate([gone[:4], come[4:]]), whole)
    assert np.array_equal(np.concatenate([come[:4], gone[4:]]), empty)


def test_the_command_writes_class_folders_and_pairs(tmp_path, capsys):
    words = [f"out={tmp_path}/set", "train=3", "val=2", "pairs=1", "images=4", "num_frames=4"]
    words.append("side=32")
    assert main(["data", "shapes", *words, "label=speed"]) == 0
    assert "train: 3 videos" in capsys.readouterr().out
    train = read_class_folders(tmp_path / "set" / "train")
    assert (len(train.items), train.classes) == (3, ("fast", "slow"))
    assert read_class_folders(tmp_path / "set" / "val").classes == train.classes
    groups = [pair.group for pair in read_grasp(tmp_path / "set" / "pairs").pairs]
    assert groups == ["appears", "jumps", "vanishes"]
    assert len(list((tmp_path / "set" / "images" / "train").glob("*.png"))) == 4
    assert len(list((tmp_path / "set" / "images" / "val").glob("*.png"))) == 1
    found = inspect_video(train.items[0].path, decode=True)
    assert found.frames == 4
    assert main(["data", "shapes", *words]) == 2  # another label
    assert "empty it" in capsys.readouterr().err
    files = sorted((tmp_path / "set").rglob("*.[mp][pn][4g]"))
    before = {path: path.read_bytes() for path in files}
    lost = {files[0], files[-1], next(p for p in files if p.suffix == ".mp4")}
    for path in lost:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in files if path not in lost}
    assert main(["data", "shapes", *words, "label=speed"]) == 0  # adds what is missing
    assert {path: path.read_bytes() for path in files} == before
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    nothing = ["train=0", "val=0", "images=0", "pairs=0"]
    assert main(["data", "shapes", f"out={tmp_path}/none", *nothing]) == 2
    assert "asks for no file" in capsys.readouterr().err
    assert main(["data", "shapes", f"out={tmp_path}/odd", "side=41"]) == 2
    assert "even sizes" in capsys.readouterr().err
