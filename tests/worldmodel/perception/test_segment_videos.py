"""Objects followed by a frozen encoder's tokens, and DAVIS's scores."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from planning.cli.app import main
from worldmodel.checkpoints.io import save
from worldmodel.errors import ConfigError, DataError
from worldmodel.models.config import EncoderConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.perception.segmentation.label_propagation import (
    Propagation,
    frame_tokens,
    near,
    resized,
)
from worldmodel.perception.segmentation.mask_scores import (
    contour,
    contour_accuracy,
    region_similarity,
    score_masks,
)
from worldmodel.perception.segmentation.options import PropagationOptions


def disc(height, width, row, column, radius):
    y, x = np.ogrid[:height, :width]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def test_region_similarity():
    one, other = disc(40, 60, 20, 20, 8), disc(40, 60, 20, 24, 8)
    wanted = (one & other).sum() / (one | other).sum()
    assert region_similarity(one, other) == pytest.approx(wanted)
    assert region_similarity(one, one) == 1
    assert region_similarity(one & False, one & False) == 1


def test_contours_match_within_a_tolerance():
    one = disc(240, 427, 100, 200, 30)
    radius = math.ceil(0.008 * math.hypot(240, 427))
    assert contour_accuracy(one, one) == 1
    near_by = disc(240, 427, 100, 200 + radius - 1, 30)
    assert contour_accuracy(near_by, one) == pytest.approx(1, abs=0.02)
    assert contour_accuracy(disc(240, 427, 100, 300, 30), one) == 0
    empty = one & False
    assert contour_accuracy(empty, one) == 0
    assert contour_accuracy(empty, empty) == 1
    edge = contour(one)
    assert edge.sum() < 0.2 * one.sum()
    assert not edge[100, 200]


def test_scores_leave_out_the_first_and_the_last_frame():
    truth = [(2 * disc(40, 60, 20, 20 + t, 8)).astype(np.uint8) for t in range(4)]
    wrong = [truth[0], truth[1], truth[2], np.zeros_like(truth[3])]
    assert score_masks(wrong, truth) == {2: (1.0, 1.0)}
    with pytest.raises(DataError, match="at least 3"):
        score_masks(truth[:2], truth[:2])
    with pytest.raises(DataError, match="no object"):
        score_masks(wrong[::-1], wrong[::-1])


def test_neighbours_are_those_within_the_radius():
    circle = near(5, 7, PropagationOptions(radius=2))
    square = near(5, 7, PropagationOptions(radius=2, neighbourhood="square"))
    middle = 2 * 7 + 3
    assert circle[middle].sum() == 13
    assert square[middle].sum() == 25
    assert (square | ~circle).all()


def test_tokens_that_tell_the_object_carry_its_mask_along():
    rows, columns = 6, 10
    options = PropagationOptions(radius=3, context=2, top_k=3)

    def frame(place):
        inside = torch.zeros(rows, columns, 8)
        inside[..., 0] = 1
        inside[2:4, place : place + 2] = torch.nn.functional.one_hot(torch.tensor(3), 8).float()
        return inside

    mask = np.zeros((48, 80), np.uint8)
    mask[16:32, 8:24] = 7
    follow = Propagation(frame(1), mask, options)
    for place in (2, 3, 4, 5):
        found = follow.step(frame(place))
        wanted = np.zeros((48, 80), bool)
        wanted[16:32, 8 * place : 8 * place + 16] = True
        assert region_similarity(found == 7, wanted) > 0.6
    assert len(follow.past) == 2
    assert set(np.unique(found)) == {0, 7}


def encoder_of(**changes):
    torch.manual_seed(0)
    sizes = {"image_size": (32, 32), "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
    return VideoEncoder.of(VisionTransformer(EncoderConfig(**sizes, **changes)))


def test_frames_keep_their_shape_in_whole_patches():
    frame = torch.randint(256, (50, 91, 3), dtype=torch.uint8)
    assert resized(frame, 32, 8).shape == (32, 56, 3)
    tokens = frame_tokens(encoder_of(), frame, 32)
    assert tokens.shape == (4, 7, 24)
    torch.testing.assert_close(tokens.norm(dim=-1), torch.ones(4, 7))
    with pytest.raises(ConfigError):
        PropagationOptions(top_k=0)


@pytest.fixture
def davis(tmp_path):
    root = tmp_path / "davis"
    (root / "ImageSets" / "2017").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in ("ball", "short", "torn"):
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / "480p" / name).mkdir(parents=True)
        ground = generator.integers(0, 90, (48, 80, 3))
        for t in range(2 if name == "short" else 5):
            ball = disc(48, 80, 24, 20 + 4 * t, 10)
            frame = np.where(ball[..., None], (230, 180, 60), ground).astype(np.uint8)
            Image.fromarray(frame).save(
                root / "JPEGImages" / "480p" / name / f"{t:05d}.jpg", quality=95
            )
            mask = Image.fromarray(ball.astype(np.uint8), mode="P")
            mask.putpalette([0, 0, 0, 128, 0, 0])
            mask.save(root / "Annotations" / "480p" / name / f"{t:05d}.png")
    (root / "JPEGImages" / "480p" / "torn" / "00002.jpg").write_bytes(b"\xff\xd8torn")
    (root / "ImageSets" / "2017" / "val.txt").write_text("ball\nshort\ntorn\ngone\n")
    return root


def test_the_command_scores_davis_and_resumes(davis, tmp_path, capsys):
    save(tmp_path / "encoder.safetensors", encoder_of())
    words = [f"data={davis}", f"model={tmp_path}/encoder.safetensors", "short_side=48"]
    words += ["radius=4", "context=3", "device=cpu", f"out={tmp_path}/out"]
    assert main(["segment", *words]) == 0
    text = capsys.readouterr().out
    assert "1 sequences, 1 objects" in text
    for name in ("short", "torn", "gone"):
        assert f"rejected {name}" in text
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["J&F"] == pytest.approx((summary["J"] + summary["F"]) / 2)
    assert summary["J"] > 0.5
    with Image.open(tmp_path / "out" / "masks" / "ball" / "00003.png") as image:
        assert set(np.unique(np.array(image))) == {0, 1}
    assert main(["segment", *words]) == 0
    assert (
        json.loads((tmp_path / "out" / "summary.json").read_text())["scores"] == summary["scores"]
    )
    assert main(["segment", "data=nowhere"]) == 2
    assert "is not a folder" in capsys.readouterr().err
