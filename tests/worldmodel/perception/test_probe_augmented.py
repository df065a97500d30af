"""`worldmodel probe train` on random views, in several processes, and with 16-bit products."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from planning.cli.app import main, parse_options
from tests.worldmodel.perception.labelled_set import write_set
from tests.worldmodel.training.fast_process import finish, start_ranks
from worldmodel.checkpoints.loading import load_encoder
from worldmodel.data.writers.video import write_video
from worldmodel.errors import DataError, TrainingError
from worldmodel.perception.heads import fitting
from worldmodel.perception.probes import run as probe_run
from worldmodel.perception.probes.classifiers import ProbeGrid
from worldmodel.perception.probes.config import TrainOptions
from worldmodel.perception.probes.fresh_tokens import FreshTokens
from worldmodel.perception.probes.labelled_videos import LabelledItem, LabelledItems, read_items
from worldmodel.perception.probes.recipes import RECIPES, Recipe

CLIPS = ["clips.num_frames=4", "frame_step=1", "num_segments=2", "num_views=1"]
HEADS = ["num_heads=2", "batch_size=6", "device=cpu", "dtype=float32"]
SLICES = Recipe(num_frames=2, frame_step=1, num_segments=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = write_set(tmp_path_factory.mktemp("augmented"), train=7, val=3)
    write_video(root / "train" / "short.mp4", np.zeros((1, 48, 64, 3), np.uint8))
    with (root / "train.txt").open("a") as file:
        file.write("\ntrain/short.mp4 0\ntrain/clip 0.mp4 1\ntrain/clip 1.mp4 bright\n")
    return root


def words(folder, out, *more):
    lists = [f"{split}={folder}/{split}.txt" for split in ("train", "val")]
    encoder = f"encoder={folder}/encoder.safetensors"
    return ["probe", "train", *lists, encoder, f"out={folder / out}", *CLIPS, *HEADS, *more]


def weights(folder, out):
    return load_file(folder / out / "probe.safetensors")


AUGMENTED = ["augment=true", "preset=vjepa1_ssv2", "epochs=3", "save_every=1"]


@pytest.fixture(scope="module")
def run(folder):
    assert main(words(folder, "run", *AUGMENTED)) == 0
    return json.loads((folder / "run" / "summary.json").read_text())


def test_random_views_train_and_name_what_cannot_be_read(folder, run):
    assert (run["heads"], run["val_items"]) == (1, 6)
    assert run["trained_on"] in (
        12,
        13,
        14,
    )  # two of 16 choose the head, and two of 16 cannot be read
    assert run["head"]["clip_norm"] == 1.0
    assert run["head"]["final_decay"] == 1e-6
    names = " ".join(run["rejected"]["train"])
    assert all(name in names for name in ("broken.mp4", "short.mp4"))
    assert all(f"train.txt:{line}" in names for line in (16, 18, 19))
    assert len(run["rejected"]["train"]) == 5
    assert len(json.loads((folder / "run" / "curves.json").read_text())) == 3
    assert not any(name.startswith("pooler.blocks") for name in weights(folder, "run"))


def test_a_run_that_is_killed_within_an_epoch_resumes_bit_for_bit(folder, run, monkeypatch):
    update, calls = ProbeGrid.update, []

    def killed(self, *arguments):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return update(self, *arguments)

    again = words(folder, "killed", *AUGMENTED)
    monkeypatch.setattr(ProbeGrid, "update", killed)
    with pytest.raises(KeyboardInterrupt):
        probe_run.train_probe(parse_options("probe train", TrainOptions, again[2:]))
    monkeypatch.setattr(ProbeGrid, "update", update)
    assert main(again) == 0
    assert len(calls) == 5
    whole, resumed = weights(folder, "run"), weights(folder, "killed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    curves, rejected = (
        [json.loads((folder / out / file).read_text()) for out in ("run", "killed")]
        for file in ("curves.json", "summary.json")
    )
    assert curves[0] == curves[1]
    assert rejected[0]["rejected"] == rejected[1]["rejected"]


@pytest.mark.parametrize("augment", ["true", "false"])
def test_two_processes_train_the_heads_of_one(folder, augment):
    more = [f"augment={augment}", "depth=2", "epochs=2"]
    one, two = f"one-{augment}", f"two-{augment}"
    assert main(words(folder, one, *more)) == 0
    assert finish(start_ranks(2, words(folder, two, *more), folder / f"log-{augment}")) == [0, 0]
    summaries = [json.loads((folder / out / "summary.json").read_text()) for out in (one, two)]
    assert [found["processes"] for found in summaries] == [1, 2]
    for key in ("head", "trained_on", "val_items", "val_hits_per_head"):
        assert summaries[0][key] == summaries[1][key]
    assert sorted(summaries[0]["rejected"]["train"]) == sorted(summaries[1]["rejected"]["train"])
    curves = [json.loads((folder / out / "curves.json").read_text()) for out in (one, two)]
    for ours, theirs in zip(*curves, strict=True):
        torch.testing.assert_close(
            torch.tensor(ours["loss"]), torch.tensor(theirs["loss"]), atol=1e-4, rtol=1e-3
        )
    whole, shared = weights(folder, one), weights(folder, two)
    for name, weight in whole.items():
        torch.testing.assert_close(shared[name], weight, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_16_bits_run_from_encoder_to_heads(folder, precision):
    assert main(words(folder, precision, f"precision={precision}", "depth=1", "epochs=4")) == 0
    found = json.loads((folder / precision / "summary.json").read_text())
    assert found["val_top1"] == 1.0
    assert all(torch.isfinite(weight).all() for weight in weights(folder, precision).values())


def test_a_view_depends_on_seed_epoch_and_item_alone(folder):
    encoder = load_encoder(folder / "encoder.safetensors", "cpu")
    items = read_items(str(folder / "train.txt"), "")
    fresh = FreshTokens(encoder, items, SLICES, seed=3)
    tokens, labels = fresh.read(1, torch.tensor([0, 1, 2]))
    assert tokens.shape == (1, 3, 2 * 4, 24)
    assert labels.tolist() == [0, 1, 0]
    again, _ = FreshTokens(encoder, items, SLICES, seed=3).read(1, torch.tensor([2]))
    torch.testing.assert_close(again[:, 0], tokens[:, 2], atol=1e-5, rtol=0)
    other, _ = fresh.read(2, torch.tensor([2]))
    assert not torch.allclose(other[:, 0], tokens[:, 2], atol=1e-3)
    broken = [i for i, item in enumerate(items.items) if item.path.name == "broken.mp4"]
    none, no_labels = fresh.read(1, torch.tensor(broken))
    assert none.shape == (1, 0, 0, 24)
    assert len(no_labels) == 0
    assert list(fresh.rejected) == [str(items.items[broken[0]].path)]


def test_an_image_among_videos_of_several_clips_is_named(folder, tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "still.png")
    encoder = load_encoder(folder / "encoder.safetensors", "cpu")
    video = LabelledItem(folder / "train" / "clip 1.mp4", 1)
    items = LabelledItems((video, LabelledItem(tmp_path / "still.png", 0)), {})
    fresh = FreshTokens(encoder, items, SLICES, seed=3)
    tokens, labels = fresh.read(1, torch.tensor([0, 1]))
    assert (tokens.shape[1], labels.tolist()) == (1, [1])
    assert (
        "still.png has 1 clips, those of the first item 2"
        in fresh.rejected[str(tmp_path / "still.png")]
    )
    one = FreshTokens(encoder, items, replace(SLICES, num_segments=1), seed=3)
    assert one.read(1, torch.tensor([0, 1]))[1].tolist() == [1, 0]


def test_an_epoch_without_any_readable_item_is_an_error(folder, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"\0" * 50)
    (tmp_path / "b.mp4").write_bytes(b"\0" * 50)
    (tmp_path / "list.txt").write_text("a.mp4 0\nb.mp4 1\n")
    more = words(folder, tmp_path / "out", "augment=true", "as_released=true", "epochs=1")
    more[2] = f"train={tmp_path}/list.txt"
    with pytest.raises(DataError, match="no item could be read in epoch 1"):
        probe_run.train_probe(parse_options("probe train", TrainOptions, more[2:]))


def test_heads_that_diverge_are_named_and_empty_batches_left_out():
    nan, empty = torch.tensor([torch.nan, torch.nan]), torch.full((2,), fitting.EMPTY)
    with pytest.raises(TrainingError, match="all 2 heads are not finite in epoch 3"):
        fitting._end_epoch(fitting._Progress([], [torch.ones(2), nan, empty]), 3)
    with pytest.raises(DataError, match="no item could be read in epoch 3"):
        fitting._end_epoch(fitting._Progress([], [empty]), 3)
    one = fitting._Progress([], [torch.tensor([1.0, torch.nan]), empty])
    fitting._end_epoch(one, 3)
    assert one.rows[0]["loss"][0] == 1.0


def test_recipes_of_the_first_generation():
    first = RECIPES["vjepa1_k400"]
    assert (first.depth, first.rates, first.decays) == (1, (1e-3,), (0.01,))
    assert (first.num_segments, first.num_views, first.batch_size) == (8, 3, 256)
    assert (RECIPES["vjepa1_in1k"].decays, RECIPES["vjepa1_in1k"].batch_size) == ((0.001,), 1024)
    assert [name for name, recipe in RECIPES.items() if recipe.flip] == [
        name for name in RECIPES if name.endswith(("in1k", "places205", "inat21"))
    ]


def test_the_recipe_of_imagenet_has_one_more_head_without_warm_up():
    *others, last = probe_run.settings_of(RECIPES["in1k"], 10, None, None)
    assert len(others) == 20
    assert {head.warmup_steps for head in others} == {50}
    assert (last.lr, last.weight_decay, last.warmup_steps) == (1e-3, 1e-3, 0)
    assert len(probe_run.settings_of(RECIPES["in1k"], 10, 0.1, 0.2)) == 1
    assert len(probe_run.settings_of(RECIPES["places205"], 10, None, None)) == 20
