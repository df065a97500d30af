"""`worldmodel probe dense` from pictures to scores."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from planning.cli.app import main
from worldmodel.checkpoints.io import save
from worldmodel.errors import DataError
from worldmodel.models.config import EncoderConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.perception.dense.head import (
    DenseHead,
    DepthScore,
    SegmentationScore,
    depth_loss,
    segmentation_loss,
)
from worldmodel.perception.dense.labelled_images import VOID, DenseItem, find_items, read_truth

COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200))


def write_set(folder, count, seed):
    """Write images of coloured patches, whose colour tells class and depth."""
    rng = np.random.default_rng(seed)
    for name in ("images", "labels", "depth"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        cells = rng.integers(3, size=(4, 4))
        labels = cells.repeat(8, 0).repeat(8, 1).astype(np.uint8)
        noise = rng.integers(0, 30, (32, 32, 3))
        image = (np.array(COLOURS)[labels] + noise).astype(np.uint8)
        depth = 1000 * (labels.astype(np.uint16) + 1)
        labels[:2], depth[:2] = VOID, 0  # nothing is known of the first rows
        for name, pixels in (("images", image), ("labels", labels), ("depth", depth)):
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("dense")
    write_set(root / "train", 40, 0)
    write_set(root / "val", 6, 1)
    (root / "val" / "images" / "alone.png").write_bytes(b"")
    (root / "val" / "labels" / "5.png").write_bytes(b"no picture")
    torch.manual_seed(0)
    sizes = {"embed_dim": 24, "depth": 1, "num_heads": 2, "patch_size": 8, "rope": "interleaved"}
    encoder = VisionTransformer(EncoderConfig(image_size=(32, 32), num_frames=2, **sizes))
    save(root / "encoder.safetensors", VideoEncoder.of(encoder))
    return root


def words(sets, out, *more):
    inputs = [f"train={sets}/train", f"val={sets}/val", f"encoder={sets}/encoder.safetensors"]
    loop = ["epochs=30", "batch_size=8", "lr=0.03", "device=cpu", f"out={out}"]
    return ["probe", "dense", *inputs, *loop, *more]


def test_heads_read_classes_and_name_what_cannot_be_read(sets, tmp_path, capsys):
    assert main(words(sets, tmp_path, "pictures=2")) == 0
    found = json.loads((tmp_path / "summary.json").read_text())
    assert (found["classes"], found["heads"], found["val_items"]) == (3, 3, 5)
    assert found["val"]["mean_iou"] > 0.6
    assert found["without_image"]["mean_iou"] < 0.4
    assert found["rejected"]["val"].keys() == {"alone", "5"}
    assert len(list((tmp_path / "pictures").iterdir())) == 2
    assert load_file(tmp_path / "head.safetensors")["linear.weight"].shape == (3, 24)
    assert "mean IoU" in capsys.readouterr().out
    assert main(words(sets, tmp_path, "pictures=2")) == 0  # nothing is trained again
    assert json.loads((tmp_path / "summary.json").read_text())["val"] == found["val"]


def predict(head, sets, out, *more):
    words = [f"head={head}", f"images={sets}/val/images", "device=cpu", f"out={out}"]
    return main(["probe", "dense-predict", *words, *more])


@pytest.mark.parametrize(("task", "folder"), [("segmentation", "labels"), ("depth", "depth")])
def test_a_trained_head_writes_maps_that_score_as_in_its_run(sets, tmp_path, capsys, task, folder):
    head, out = tmp_path / "head", tmp_path / "found"
    assert main(words(sets, head, f"task={task}", "epochs=10", "weight_decay=0.001")) == 0
    capsys.readouterr()
    assert predict(head, sets, out) == 0
    assert "rejected 1 of images" in capsys.readouterr().out
    found = json.loads((out / "predictions.json").read_text())
    assert (found["task"], len(found["predictions"])) == (task, 6)
    assert [Path(name).name for name in found["rejected"]] == ["alone.png"]
    score = SegmentationScore(3) if task == "segmentation" else DepthScore()
    for item in find_items(sets / "val", task, {}):
        if item.name == "5" and task == "segmentation":
            continue  # its truth is damaged
        truth = read_truth(item, task, 0.001, (32, 32))
        written = DenseItem(item.name, item.image, out / folder / f"{item.name}.png")
        found_HW = read_truth(written, task, 0.001, (32, 32))
        is_map = task == "depth"
        one_hot = torch.nn.functional.one_hot(found_HW.clamp_max(2).long(), 3).permute(2, 0, 1)
        score.add(found_HW[None] if is_map else one_hot, truth)
    want = json.loads((head / "summary.json").read_text())["val"]
    assert score.figures() == pytest.approx(want, abs=2e-3)
    with Image.open(out / "pictures" / "0.png") as picture:
        assert picture.size == (64, 32)
    if task == "depth":
        assert predict(head, sets, out, "depth_scale=2e-5") == 0  # the file holds up to 1.3 m
        facts = json.loads((out / "predictions.json").read_text())["predictions"].values()
        assert all(0 < fact["nearest_m"] <= fact["farthest_m"] < 1.3108 for fact in facts)


def test_what_is_no_head_or_another_encoder_is_refused(sets, tmp_path, capsys):
    assert predict(sets / "encoder.safetensors", sets, tmp_path / "a") == 2
    assert "not a head of `probe dense`" in capsys.readouterr().err
    assert predict(tmp_path / "missing.safetensors", sets, tmp_path / "b") == 2
    assert main(words(sets, tmp_path / "head", "epochs=1")) == 0
    path = tmp_path / "head" / "head.safetensors"
    tensors = load_file(path)
    for notes in (
        {"task": "depth"},
        {"task": "depth", "grid": "[4, -4]", "scale": "[0, 1]"},
        {"task": "depth", "grid": "[4, 4]", "scale": "[NaN, 1]"},
        {"task": "depth", "grid": "{", "scale": "[0, 1]"},
    ):
        save_file(tensors, tmp_path / "wrong.safetensors", notes)
        assert predict(tmp_path / "wrong.safetensors", sets, tmp_path / "c") == 2
        assert "does not describe its head" in capsys.readouterr().err
    assert predict(path, sets, tmp_path / "d", "encoder=random:vit_tiny") == 2
    assert "width 24" in capsys.readouterr().err


def test_a_class_of_one_pixel_is_a_class(sets, tmp_path):
    copy = tmp_path / "sets"
    shutil.copytree(sets, copy)
    path = copy / "val" / "labels" / "0.png"
    labels = np.array(Image.open(path))
    labels[31, 31] = 7
    Image.fromarray(labels).save(path)
    assert main(words(copy, tmp_path / "out", "epochs=1")) == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["classes"] == 8


def test_links_that_lead_out_and_second_images_of_a_truth_are_rejects(sets, tmp_path):
    shutil.copytree(sets, tmp_path / "sets")
    train = tmp_path / "sets" / "train"
    outside = tmp_path / "outside.png"
    for file in (train / "images" / "0.png", train / "labels" / "1.png"):
        file.replace(outside)
        file.symlink_to(outside)
    shutil.copy(train / "images" / "2.png", train / "images" / "2.jpg")
    assert main(words(tmp_path / "sets", tmp_path / "out", "epochs=1")) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    rejected = summary["rejected"]["train"]
    assert set(rejected) == {"0", "1", "2.png"}
    assert all("outside the data set" in rejected[name] for name in "01")
    assert main(words(tmp_path / "sets", tmp_path / "all", "epochs=1", "links=all")) == 0
    summary = json.loads((tmp_path / "all" / "summary.json").read_text())
    assert set(summary["rejected"]["train"]) == {"2.png"}


def test_a_run_of_other_truths_is_not_resumed(sets, tmp_path, capsys):
    shutil.copytree(sets, tmp_path / "sets")
    folder = tmp_path / "sets" / "train"
    assert main(words(tmp_path / "sets", tmp_path / "out", "epochs=1")) == 0
    (folder / "labels" / "3.png").write_bytes((folder / "labels" / "4.png").read_bytes())
    assert main(words(tmp_path / "sets", tmp_path / "out", "epochs=1")) == 2
    assert "items" in capsys.readouterr().err


def test_a_truth_of_another_size_is_not_decoded(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "small.png")
    item = DenseItem("small", tmp_path / "image.png", tmp_path / "small.png")
    with pytest.raises(DataError, match=r"size \(8, 8\), its truth \(4, 4\)"):
        read_truth(item, "segmentation", 1.0, (8, 8))


def test_heads_read_depth(sets, tmp_path):
    assert main(words(sets, tmp_path, "task=depth", "weight_decay=0.001", "image_size=48")) == 0
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["heads"] == 1
    assert found["val"]["rmse_m"] < 0.6 * found["without_image"]["rmse_m"]
    assert main(words(sets, tmp_path / "x", "image_size=30")) == 2


def test_losses_and_scores_leave_out_what_is_not_known():
    logits = torch.zeros(2, 3, 1, 1)
    truth = torch.tensor([[[0, VOID]], [[2, 1]]])
    assert float(segmentation_loss(logits, truth)) == pytest.approx(2 * np.log(3))
    depths = torch.tensor([[[1.0, torch.nan]], [[2.0, 4.0]]])
    assert float(depth_loss(torch.ones(2, 1, 1, 1), depths)) == pytest.approx(0 + (1 + 9) / 2)
    score = SegmentationScore(3)
    found = torch.nn.functional.one_hot(torch.tensor([[0, 0, 1, 2]]), 3).permute(2, 0, 1)
    score.add(found, torch.tensor([[0, 1, 1, VOID]]))
    assert score.figures() == pytest.approx({"mean_iou": 0.5, "pixel_accuracy": 2 / 3})
    measured = DepthScore()
    measured.add(torch.tensor([[[1.0, 9.0, 3.0]]]), torch.tensor([[1.0, torch.nan, 2.0]]))
    assert measured.figures() == pytest.approx({"rmse_m": 0.5**0.5, "relative_error": 0.25})


@pytest.mark.parametrize("score", [SegmentationScore(2), DepthScore()])
def test_a_head_that_diverged_is_not_chosen(score):
    good = type(score)(2) if isinstance(score, SegmentationScore) else type(score)()
    truth = torch.zeros(2, 2).long() if isinstance(score, SegmentationScore) else torch.ones(2, 2)
    score.add(torch.full((2, 2, 2), torch.nan), truth)
    good.add(torch.zeros(2, 2, 2), truth)
    assert max([score, good], key=lambda s: s.quality()) is good


def test_a_depth_head_starts_near_the_mean_depth():
    torch.manual_seed(0)
    head = DenseHead(8, 1, (2, 3), (5.0, 0.1))
    found = head(torch.randn(16, 6, 8)).detach()
    assert found.shape == (16, 1, 2, 3)
    assert float((found - 5).abs().max()) < 0.5


def test_a_picture_of_another_kind_is_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    item = DenseItem("a", tmp_path / "a.png", tmp_path / "a.png")
    for task in ("depth", "segmentation"):
        with pytest.raises(DataError, match="mode RGB"):
            read_truth(item, task, 0.001, (4, 4))
