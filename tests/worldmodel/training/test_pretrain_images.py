"""`worldmodel pretrain mode=images`: learns, resumes bit for bit, schedules as published."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from planning.cli.app import compose_options, main
from worldmodel import load_encoder
from worldmodel.training.distributed import Ranks
from worldmodel.training.run import open_task, train
from worldmodel.training.tasks.images import build_image_encoder, build_image_predictor

SIZES = ["image_size=32", "patch_size=4", "encoder_dim=16", "encoder_depth=1", "encoder_heads=2"]
SIZES += ["predictor_dim=16", "predictor_depth=1", "min_keep=2", "threads=1"]
RUN = ["steps=12", "batch_size=8", "val_clips=8", "warmup=4", "log_every=1", "eval_every=6"]


def draw(root, count, seed):
    """Images of a coloured disc on a coloured ground."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:48, :48]
    for number in range(count):
        (y, x), colours = rng.integers(10, 38, 2), rng.integers(0, 256, (2, 3), np.uint8)
        inside = (rows - y) ** 2 + (columns - x) ** 2 < 81
        Image.fromarray(np.where(inside[..., None], *colours)).save(root / f"{number:03d}.png")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    draw(root / "train", 64, 0)
    draw(root / "val", 16, 1)
    return ["mode=images", f"data={root}/train", f"val={root}/val", *SIZES, *RUN]


def options(words, *more):
    return compose_options("pretrain", [*words, *more])


def losses(out):
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"], row["lr"], row["momentum"]) for row in rows]


def test_a_stopped_run_goes_on_bit_for_bit_and_exports_its_average(words, tmp_path):
    assert main(["pretrain", *words, f"out={tmp_path}/whole"]) == 0
    train(options(words, f"out={tmp_path}/parts", "stop_after=7"))
    train(options(words, f"out={tmp_path}/parts"))
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    encoder = load_encoder(tmp_path / "whole", "cpu")
    assert encoder.backbone.config.position == "sincos_2d"
    assert encoder.encode(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)).shape == (1, 64, 16)
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert {"val_loss", "val_mean", "effective_rank", "unreadable"} <= summary["last"].keys()
    assert json.loads((tmp_path / "whole" / "rejects.json").read_text()) == {}
    again = options(words, f"out={tmp_path}/more", f"init={tmp_path}/whole", "steps=2")
    assert train(again)["parameters"] == summary["parameters"]


def test_learns_to_predict_hidden_blocks(words, tmp_path):
    longer = ["steps=250", "warmup=30", "momentum=0.99", "weight_decay_end=0.04", "val_clips=16"]
    last = train(options(words, *longer, "eval_every=249", f"out={tmp_path}"))["last"]
    assert last["val_loss"] < 0.9 * last["val_mean"]


def test_schedules_are_the_published_ones(words, tmp_path):
    task = open_task(options(words, f"out={tmp_path}", "lr_start=2e-4"), Ranks())
    assert task.learning_rate(1) == pytest.approx(2e-4 + 0.5 * 8e-4)
    assert task.learning_rate(11) == pytest.approx(1e-6)
    matrix, vector = torch.nn.Parameter(torch.zeros(2, 2)), torch.nn.Parameter(torch.zeros(2))
    groups = [{"params": [matrix]}, {"params": [vector], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, weight_decay=0.04)
    task.before_step(11, optimizer)
    assert [group["weight_decay"] for group in optimizer.param_groups] == pytest.approx([0.4, 0.0])


@pytest.mark.parametrize(
    ("size", "heads"), [("vit_giant", 16), ("vit_huge", 16), ("vit_small", 6), ("vit_base", 12)]
)
def test_published_sizes_have_the_heads_of_i_jepa(words, size, heads):
    asked = options(words, f"size={size}", "image_size=32", "patch_size=16", "predictor_dim=384")
    with torch.device("meta"):
        encoder = build_image_encoder(asked).config
        predictor = build_image_predictor(asked, encoder).config
    assert (encoder.num_heads, predictor.num_heads) == (heads, heads)


def test_an_unreadable_image_costs_its_own_place_alone(words, tmp_path):
    root = tmp_path / "images"
    draw(root, 15, 2)
    Image.open(root / "000.png").resize((200, 200)).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (root / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    found = train(options(words, f"data={root}", f"out={tmp_path}/out", "batch_size=16", "steps=3"))
    assert found["unreadable_images"] == 1
    assert "torn.jpg" in json.loads((tmp_path / "out" / "rejects.json").read_text())


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("image_size=30", "several whole patches"),
        ("init=default", "not an I-JEPA encoder"),
        ("num_frames=4", "mode=clips"),
        ("crop_scale=0.9,0.3", "low <= high"),
        ("min_keep=500", "lower min_keep"),
    ],
)
def test_contradictions_are_named(words, tmp_path, word, message, capsys):
    assert main(["pretrain", *words, word, f"out={tmp_path}"]) == 2
    assert message in capsys.readouterr().err
