"""Both phases of the one-goal recipe on simulated play: the head, the warm start, cached tokens."""

import copy
import json

import numpy as np
import pytest
import torch

from planning.cli.app import compose_options, main
from worldmodel import load_world_model
from worldmodel.checkpoints.container import read_description
from worldmodel.checkpoints.io import save
from worldmodel.data.memory import open_clips
from worldmodel.errors import ConfigError, DataError
from worldmodel.models.world_model import WorldModel
from worldmodel.training.encoded_clips import encode_clips
from worldmodel.training.small_models import open_start

SIZES = [
    *("image_size=32", "patch_size=32", "stem_channels=[4,8]", "encoder_dim=16", "encoder_heads=2"),
    *("predictor_dim=16", "predictor_depth=1", "predictor_heads=2"),
]
RUN = [
    *("batch_size=4", "steps=3", "val_clips=6", "log_every=1", "bf16=false", "threads=1"),
    *("num_frames=5", "rollout_kind=free", "rollout_steps=4", "plan_clips=0"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A small model of phase 1, its data and its command line."""
    root = tmp_path_factory.mktemp("one_goal")
    data = root / "data"
    words = ["collect", f"out={data}", "episodes=3", "length=24", "workers=1", "seed=1"]
    assert main(words) == 0
    folders = [f"data={data}", f"val={data}", f"cache={root}/cache"]
    words = [*SIZES, *RUN, *folders, "head_weight=1", "head_match=0.5", "contact_share=0.7"]
    assert main(["train", *words, f"out={root}/first"]) == 0
    return root, folders


def test_phase_one_exports_the_head_and_uses_no_simulator_label(world):
    root, _ = world
    summary = json.loads((root / "first" / "summary.json").read_text())
    assert summary["simulator_label"] == "no"
    assert {"head", "head_imagined", "head_match", "val_free_4"} <= summary["last"].keys()
    assert load_world_model(root / "first", "cpu").locate(torch.zeros(1, 1, 16)) is not None


def test_a_head_that_learns_the_simulators_poses_says_so(tmp_path):
    data = tmp_path / "data"
    words = [f"out={data}", "episodes=3", "length=12", "workers=1", "mix=contact"]
    assert main(["collect", *words, "objects_per_scene=0,1"]) == 0
    folders = [f"data={data}", f"val={data}", f"cache={tmp_path}/cache", f"out={tmp_path}/out"]
    words = [*SIZES, *RUN, *folders, "head_weight=1", "head_label=simulator"]
    assert main(["train", *words]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["simulator_label"] == "yes"
    assert summary["last"]["val_head_encoded_second_m"] > 0
    description = read_description(tmp_path / "out" / "model.safetensors")
    assert description["notes"]["simulator_label"] == "yes"
    clips = open_clips(data, 5, 32, cache=tmp_path / "cache", labels="simulator")
    labels = clips.batch(np.arange(4))["labels"]
    assert np.isfinite(labels[:, :, :2, :3]).all()
    assert np.isnan(labels[:, :, :2, 3]).all()  # cubes
    assert np.isnan(labels[:, :, 2]).all()


def test_phase_two_trains_the_predictor_alone_and_resumes(world):
    root, folders = world
    words = [*RUN, *folders, "mode=frozen", f"encoder={root}/first", "warm_predictor=true"]
    words += ["cache_latents=true", "augment=0", "head_weight=1", "rollout_restart=0.5"]
    words += ["teacher_forcing=0", "save_every=1"]
    assert main(["train", *words, f"out={root}/second"]) == 0
    assert main(["train", *words, f"out={root}/killed", "stop_after=2"]) == 0
    assert main(["train", *words, f"out={root}/killed"]) == 0
    first, second, killed = (
        load_world_model(root / name, "cpu").state_dict() for name in ("first", "second", "killed")
    )
    changed = {k.split(".")[0] for k in first if not torch.equal(first[k], second[k])}
    assert changed == {"dynamics"}
    assert all(torch.equal(second[k], killed[k]) for k in second)


@pytest.mark.parametrize(("mode", "kept"), [("frozen", True), ("finetune", False)])
def test_a_home_head_is_kept_as_long_as_its_encoder(world, tmp_path, mode, kept):
    root, folders = world
    start = load_world_model(root / "first", "cpu")
    head = copy.deepcopy(start.object_head)
    whole = WorldModel(start.encoder, start.dynamics, start.object_head, None, head)
    save(tmp_path / "home.safetensors", whole)
    words = [*RUN, *folders, f"mode={mode}", f"encoder={tmp_path}/home.safetensors"]
    words += ["warm_predictor=true", "head_weight=1", f"out={tmp_path}/out"]
    assert main(["train", *words]) == 0
    after = load_world_model(tmp_path / "out", "cpu").home_head
    assert (after is not None) == kept
    if after is not None:
        assert torch.allclose(after.net[0].weight, head.net[0].weight, atol=1e-3)


def test_cached_tokens_are_those_of_the_encoder(world):
    root, folders = world
    model = load_world_model(root / "first", "cpu")
    clips = open_clips(folders[0][5:], 5, 32, cache=folders[2][6:], labels="hindsight")
    found = encode_clips(clips, model.encoder, bf16=False).batch(torch.arange(4).numpy())
    frames = clips.batch(torch.arange(4).numpy())["frames"]
    z = model.encode(torch.from_numpy(frames).flatten(0, 1)).unflatten(0, (4, 5))
    assert torch.allclose(torch.from_numpy(found["features"]), z, atol=2e-3)
    assert "frames" not in found
    assert found["labels"].shape == (4, 5, 1, 4)


def test_clips_on_the_device_and_of_several_folders_train_the_same(world, tmp_path):
    root, folders = world
    mixed = [*SIZES, *RUN, *folders, f"more_data={root}/data", "more_shares=0.7", "pattern=0.2"]
    for keep in ("host", "device"):
        assert main(["train", *mixed, f"keep_on={keep}", f"out={tmp_path / keep}"]) == 0
    host, device = (load_world_model(tmp_path / x, "cpu").state_dict() for x in ("host", "device"))
    assert all(torch.equal(host[name], device[name]) for name in host)
    for wrong in (["more_data=a"], ["more_data=a", "more_shares=0.5,0.4"], ["more_shares=0.5"]):
        with pytest.raises(ConfigError, match="one share for each folder"):
            compose_options("train", wrong)
    with pytest.raises(ConfigError, match="leaves the rest to data"):
        compose_options("train", ["more_data=a,b", "more_shares=0.5,0.5"])


def test_clips_with_contacts_have_their_share(world):
    _, folders = world
    options = {"cache": folders[2][6:], "labels": "hindsight"}
    plain = open_clips(folders[0][5:], 5, 32, **options)
    many = open_clips(folders[0][5:], 5, 32, contact_share=0.9, **options)
    assert (many.firsts[: len(plain)] == plain.firsts).all()
    extra = many.firsts[len(plain) :]
    with_contact = set(extra.tolist())
    share = sum(first in with_contact for first in many.firsts.tolist()) / len(many)
    assert share >= 0.9 - 1 / len(many)


def test_clips_with_labels_have_their_share(world):
    _, folders = world
    options = {"cache": folders[2][6:], "labels": "hindsight"}
    many = open_clips(folders[0][5:], 2, 32, hindsight_share=0.8, **options)
    known = np.isfinite(many.arrays["labels"][many.firsts, 0, 3])
    assert known.mean() > 0.8 - 1 / len(many)


@pytest.mark.parametrize("sizes", [["conditioning=adaln"], ["patch_size=16"]])
def test_other_predictors_and_token_grids_pass_through_both_phases(world, sizes):
    root, folders = world
    out = f"{root}/{sizes[0]}"
    words = [*SIZES, *RUN, *folders, *sizes, "head_weight=1", "predict_state=0.5"]
    assert main(["train", *words, f"out={out}"]) == 0
    first = load_world_model(out, "cpu")
    tokens = 4 if sizes == ["patch_size=16"] else 1
    assert first.encode(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)).shape == (1, tokens, 16)
    words = [*RUN, *folders, "mode=frozen", f"encoder={out}", "warm_predictor=true", "bf16=true"]
    words += ["cache_latents=true", "augment=0", "head_weight=1", "save_every=1"]
    assert main(["train", *words, f"out={out}-long", "stop_after=2"]) == 0
    assert main(["train", *words, f"out={out}-long"]) == 0
    second = load_world_model(f"{out}-long", "cpu")
    assert second.config == first.config
    assert second.config.predictor.predict_state
    metrics = json.loads((root / sizes[0] / "summary.json").read_text())["last"]
    assert metrics["next_state"] > 0
    if "conditioning=adaln" in sizes:
        assert second.predictor.predictor_blocks[0].modulation.weight.abs().sum() > 0
        options = compose_options("train", [*words, "predictor_dim=16", "predictor_depth=2"])
        with pytest.raises(ConfigError, match="conditioning='tokens'"):
            open_start(options)


def test_a_warm_predictor_gets_the_state_output(world):
    root, folders = world
    words = [*RUN, *folders, "mode=frozen", f"encoder={root}/first", "warm_predictor=true"]
    words += ["head_weight=1", "predict_state=1", f"out={root}/stated"]
    assert main(["train", *words]) == 0
    assert load_world_model(root / "stated", "cpu").config.predictor.predict_state


def test_contradictions_are_rejected(world):
    root, folders = world
    with pytest.raises(ConfigError, match="has no effect with head_weight=0"):
        compose_options("train", ["head_label=simulator"])
    with pytest.raises(ConfigError, match="cache_latents=true encodes frames once"):
        compose_options("train", ["mode=frozen", "cache_latents=true"])
    start = ["mode=frozen", f"encoder={root}/first", *folders, *RUN, f"out={root}/x"]
    with pytest.raises(ConfigError, match="need an object head"):
        run(start, "head_weight=1")
    with pytest.raises(ConfigError, match="leave the sizes out"):
        run(start, "warm_predictor=true", "predictor_dim=32")
    with pytest.raises(ConfigError, match="warm_predictor=false"):
        run(start, "warm_predictor=true", "fps=2")


def run(words, *more):
    from worldmodel.training.run import train

    train(compose_options("train", [*words, *more]))


def test_a_share_of_contacts_needs_contacts(tmp_path):
    data = tmp_path / "data"
    assert main(["collect", f"out={data}", "episodes=1", "length=4", "workers=1"]) == 0
    with pytest.raises(DataError, match="contact_share=0"):
        open_clips(data, 3, 32, cache=tmp_path / "cache", contact_share=0.5)
