import json

import pytest
import torch

from planning.cli.app import compose_options, main
from worldmodel.checkpoint import load
from worldmodel.resources import config_folder
from worldmodel.training.config import ImagePretrainOptions
from worldmodel.training.image_masking import block_sizes
from worldmodel.training.masked_objective import MaskedObjective, build_encoder, clip_grid
from worldmodel.training.step_masks import draw_masks
from worldmodel.training.tasks.images import build_image_encoder, build_image_predictor

RECIPES = config_folder() / "pretrain"


def test_pretrain_then_train_on_the_encoder(tmp_path, capsys):
    data, pre = tmp_path / "data", tmp_path / "pre"
    assert main(["collect", f"out={data}", "episodes=6", "length=8", "workers=1"]) == 0
    where = [f"data={data}", f"val={data}"]
    assert main(["pretrain", "recipe=smoke", *where, f"out={pre}"]) == 0
    assert "mode=frozen" in capsys.readouterr().out
    found = json.loads((pre / "summary.json").read_text())
    assert found["simulator_label"] == "no"
    assert found["last"]["probe_tcp_m"] < found["last"]["probe_tcp_mean_m"]
    assert {"feature_std", "effective_rank", "val_mean", "val_loss"} <= found["last"].keys()

    words = ["train", *where, f"encoder={pre}/encoder.safetensors", "image_size=64", "steps=3"]
    sizes = ["predictor_dim=32", "predictor_depth=1", "batch_size=8", "log_every=1", "threads=1"]
    for mode in ("frozen", "finetune"):
        out = tmp_path / mode
        assert main([*words, *sizes, f"mode={mode}", f"out={out}"]) == 0
        world = load(out / "model.safetensors", "cpu")
        assert world.config.predictor.grid == (4, 4)


def test_wrong_words_are_said(tmp_path, capsys):
    assert main(["pretrain", "mask_scale=0.5"]) == 2
    assert "long_scale" in capsys.readouterr().err
    assert main(["train", "mode=frozen", f"out={tmp_path}"]) == 2
    assert "encoder= is empty" in capsys.readouterr().err
    assert main(["train", "mode=half", f"out={tmp_path}"]) == 2
    assert "joint, post, frozen, finetune" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(p.stem for p in RECIPES.glob("*.yaml")))
def test_every_recipe_composes(name):
    options = compose_options("pretrain", [f"recipe={name}"])
    if isinstance(options, ImagePretrainOptions):
        with torch.device("meta"):
            encoder = build_image_encoder(options)
            build_image_predictor(options, encoder.config)
        side = options.encoder.image_size // options.encoder.patch_size
        block_sizes((side, side), options.masks, 0)
        assert options.schedule.warmup < options.loop.steps
        return
    with torch.device("meta"):
        encoder = build_encoder(options)
        grid = clip_grid(options, encoder.config)
        MaskedObjective(encoder, grid, options)
    draw_masks(options, grid, 4, 0)
    assert options.schedule.warmup + options.schedule.decay < options.loop.steps
