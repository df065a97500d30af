import json
import random
import shutil
import signal
import time
from pathlib import Path

import h5py
import pytest
import torch
from fast_process import start, wait_for_change

from planning.cli.app import compose_options, main
from planning.cli.fields import UsageError
from worldmodel.checkpoint import load
from worldmodel.errors import ConfigError, DataError, ShapeError
from worldmodel.resources import config_folder
from worldmodel.training.config import JointOptions, PostOptions
from worldmodel.training.run import train
from worldmodel.training.schedules import rate_at

STEPS = 12


def smoke(out: Path, *more: str) -> PostOptions:
    words = ["recipe=smoke", f"out={out}", f"steps={STEPS}", "save_every=3", "plan_clips=0", *more]
    return compose_options("train", words)


def losses(out: Path) -> list[tuple[int, float, float]]:
    rows = [json.loads(x) for x in (out / "metrics.jsonl").read_text().splitlines()]
    return [(r["step"], r["loss"], r["lr"]) for r in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted smoke run; its data is used by the others."""
    out = tmp_path_factory.mktemp("smoke") / "run"
    train(smoke(out))
    return out


def elsewhere(whole: Path, out: Path) -> Path:
    shutil.copytree(whole / "data", out / "data")
    return out


def test_smoke_learns_and_writes_a_model(whole):
    assert losses(whole)[-1][1] < 0.6 * losses(whole)[0][1]
    world = load(whole / "model.safetensors", "cpu")
    assert world.action_spec.period_s == 0.25
    assert world.encode(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)).shape == (1, 4, 32)
    row = json.loads((whole / "summary.json").read_text())["last"]
    assert {"val_step_1", "val_step_7", "val_shuffled", "val_sensitivity"} <= set(row)


def test_stopped_run_goes_on_with_the_same_losses(whole, tmp_path):
    elsewhere(whole, tmp_path)
    train(smoke(tmp_path, "stop_after=7"))
    train(smoke(tmp_path))
    assert losses(tmp_path) == losses(whole)


def _kill_run(whole: Path, out: Path, kills: int, words: list[str], seed: int) -> None:
    """Start the same command again and again; every SIGKILL hits a run that is under way."""
    elsewhere(whole, out)
    rng = random.Random(seed)
    command = ["train", "recipe=smoke", f"out={out}", *words]
    for _ in range(kills):
        child = start(command, out / "log.txt")
        if rng.random() < 0.2:  # also before its first row
            time.sleep(rng.uniform(0, 0.3))
        elif wait_for_change(out / "metrics.jsonl", child):
            time.sleep(rng.uniform(0, 0.2))
        assert child.is_alive(), (out / "log.txt").read_text()[-2000:]
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    torch.set_num_threads(1)
    train(compose_options("train", ["recipe=smoke", f"out={out}", *words]))


def _kill_test(whole: Path, tmp_path: Path, kills: int, steps: int, seed: int) -> None:
    words = [f"steps={steps}", "save_every=7", "plan_clips=0", "eval_every=1000", "log_every=1"]
    torch.set_num_threads(1)
    straight = elsewhere(whole, tmp_path / "straight")
    train(compose_options("train", ["recipe=smoke", f"out={straight}", *words]))
    _kill_run(whole, tmp_path / "killed", kills, words, seed)
    assert len(losses(straight)) == steps
    assert losses(tmp_path / "killed") == losses(straight)
    for out in (straight, tmp_path / "killed"):
        assert not list((out / "checkpoints").glob("*.part"))
    files = [out / "model.safetensors" for out in (straight, tmp_path / "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_killed_twice_equals_the_uninterrupted_run(whole, tmp_path):
    _kill_test(whole, tmp_path, kills=2, steps=40, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_twenty_times_equals_the_uninterrupted_run(whole, tmp_path):
    _kill_test(whole, tmp_path, kills=20, steps=600, seed=1)


def test_prepared_frames_and_features_train_as_the_raw_files_do(whole, tmp_path, capsys):
    index, data = tmp_path / "index", whole / "data"
    assert main(["data", "index", f"root={data}", f"out={index}", "workers=1"]) == 0
    base = ["data", "prepare", f"index={index}", "image_size=32"]
    assert main([*base, f"out={tmp_path / 'frames'}", "codec=raw"]) == 0
    words = ["what=features", "encoder=random:tiny"]
    assert main([*base, f"out={tmp_path / 'features'}", *words]) == 0
    found = {}
    for kind in ("raw", "frames", "features"):
        source = index if kind == "raw" else tmp_path / kind
        out = tmp_path / f"run-{kind}"
        train(smoke(out, "make_data=0", f"data={source}", f"val={source}", "steps=4"))
        found[kind] = [row[1] for row in losses(out)]
        with pytest.raises(ConfigError, match="was made with camera=left"):
            train(smoke(tmp_path / "y", "make_data=0", f"data={source}", "camera=wrist"))
        for word in ("links=all", "rlds_fps=30"):
            with pytest.raises(ConfigError, match=f"{word.partition('=')[0]}=.* has no effect on"):
                train(smoke(tmp_path / "y", "make_data=0", f"data={source}", word))
    # the raw run holds out some episodes, so its order differs: compare the other two
    torch.testing.assert_close(found["frames"], found["features"], atol=2e-2, rtol=0)
    assert len(found["raw"]) == 4
    with pytest.raises(ConfigError, match="holds features of encoder"):
        train(smoke(tmp_path / "x", "make_data=0", f"data={source}", f"val={source}", "seed=5"))


def test_the_cameras_pose_is_a_token_where_asked_for(whole, tmp_path):
    out = elsewhere(whole, tmp_path / "raw")
    train(smoke(out, "extrinsics=true", "stop_after=4", "plan_clips=1"))
    row = json.loads((out / "summary.json").read_text())["last"]
    assert row["val_action_error_m"] > 0
    world = load(out / "model.safetensors", "cpu")
    assert world.config.predictor.use_extrinsics
    now = (torch.zeros(1, 4, 32), torch.zeros(1, 7), torch.zeros(1, 1, 7))
    found = [world.unroll(*now, extrinsics_B6=torch.full((1, 6), x)) for x in (0.0, 1.0)]
    assert not torch.equal(*found)
    with pytest.raises(ShapeError, match="trained with extrinsics"):
        world.unroll(*now)
    index = ["data", "index", f"root={out / 'data'}", f"out={tmp_path / 'index'}", "workers=1"]
    assert main([*index, "extrinsics=required"]) == 0
    made = ["data", "prepare", f"index={tmp_path / 'index'}", "image_size=32", "codec=raw"]
    for name, words in {"with": ["extrinsics=true"], "without": []}.items():
        assert main([*made, f"out={tmp_path / name}", *words]) == 0
    words = ["make_data=0", "extrinsics=true", "stop_after=4"]
    for name in ("index", "with"):
        source = tmp_path / name
        train(smoke(tmp_path / f"run-{name}", *words, f"data={source}", f"val={source}"))
        assert len(losses(tmp_path / f"run-{name}")) == 4
    source = tmp_path / "without"
    with pytest.raises(ConfigError, match="without the camera's poses"):
        train(smoke(tmp_path / "x", *words, f"data={source}", f"val={source}"))


def test_an_episode_without_poses_is_rejected_where_they_are_required(whole, tmp_path):
    data = elsewhere(whole, tmp_path) / "data"
    with h5py.File(next(data.rglob("trajectory.h5")), "r+") as file:
        del file["observation/camera_extrinsics"]
    train(smoke(tmp_path, "extrinsics=true", "stop_after=1"))
    summary = json.loads((tmp_path / "index" / "summary.json").read_text())
    assert summary["reasons"] == {"extrinsics_missing": 1}
    loose = f"out={tmp_path / 'loose'}"
    assert main(["data", "index", f"root={data}", loose, "workers=1"]) == 0
    words = ["make_data=0", "extrinsics=true", f"data={tmp_path / 'loose'}"]
    with pytest.raises(DataError, match="extrinsics=required"):
        train(smoke(tmp_path / "y", *words, f"val={tmp_path / 'loose'}"))


def test_accumulation_and_recomputed_blocks_change_nothing(whole, tmp_path):
    found = {"plain": [row[1] for row in losses(whole)[:4]]}
    for name, words in {
        "accumulate": ["accumulate=2"],
        "recompute": ["checkpoint_activations=true"],
    }.items():
        out = elsewhere(whole, tmp_path / name)
        train(smoke(out, "stop_after=4", *words))
        found[name] = [row[1] for row in losses(out)]
    torch.testing.assert_close(found["plain"], found["accumulate"], atol=1e-5, rtol=0)
    torch.testing.assert_close(found["plain"], found["recompute"], atol=1e-6, rtol=0)


def test_too_many_rejects_stop_the_run(whole, tmp_path):
    elsewhere(whole, tmp_path)
    for path in list((tmp_path / "data").rglob("*.mp4"))[:2]:
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="max_reject_fraction"):
        train(smoke(tmp_path, "max_reject_fraction=0.1"))


def test_a_recipe_names_its_mode_and_holds_only_its_options():
    options = compose_options("train", ["recipe=sim_small", "steps=7"])
    assert isinstance(options, JointOptions)
    assert options.loop.steps == 7
    with pytest.raises(UsageError, match="recipe sim_small"):
        compose_options("train", ["mode=post", "recipe=sim_small"])


@pytest.mark.parametrize(
    "words",
    [["nodes=4"], ["processes_per_node=2"], ["partition=gpu"], ["launcher=local", "nodes=2"]],
)
def test_options_of_a_job_are_refused_where_no_job_uses_them(words):
    with pytest.raises(ConfigError, match="has no effect with launcher="):
        compose_options("train", ["recipe=sim_small", *words])


def test_every_recipe_composes():
    for path in sorted((config_folder() / "train").glob("*.yaml")):
        options = compose_options("train", [f"recipe={path.stem}"])
        if options.mode == "post":
            sizes, loop = options.predictor, options.loop
            assert sizes.predictor_dim % sizes.predictor_heads == 0
            assert loop.batch_size % loop.accumulate == 0
            assert rate_at(loop.steps, options) == pytest.approx(options.schedule.lr_end, abs=1e-4)


def test_published_schedule():
    options = compose_options("train", ["recipe=droid_vitg"])
    assert rate_at(0, options) == 7.5e-5
    assert rate_at(4500, options) == rate_at(89_999, options) == 4.25e-4
    assert rate_at(94_500, options) == 0.0


@pytest.mark.parametrize(("frame", "fps"), [("tcp", 5.0), ("flange", 4.0)])
def test_the_exported_file_says_what_it_was_trained_on(whole, tmp_path, frame, fps):
    elsewhere(whole, tmp_path)
    words = [f"state_frame={frame}", f"fps={fps}", "transform=squeeze", "stop_after=1"]
    train(smoke(tmp_path, *words))
    world = load(tmp_path / "model.safetensors", "cpu")
    seen, acts = world.observation_spec, world.action_spec
    assert (seen.image_size, seen.transform, seen.cameras) == ((32, 32), "squeeze", ("left",))
    assert (seen.state_frame, seen.state_dim) == (frame, 7)
    assert (acts.gripper, acts.action_dim, acts.period_s) == ("difference", 7, 1 / fps)


def test_post_training_on_a_transformers_backbone(whole, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    transformers.Dinov2Model(config).save_pretrained(tmp_path / "backbone")
    out = elsewhere(whole, tmp_path / "run")
    train(smoke(out, f"encoder=hf:{tmp_path}/backbone", "image_size=0", "stop_after=2"))
    world = load(out / "model.safetensors", "cpu")
    height, width = world.image_size
    assert world.config.predictor.grid == (height // 14, width // 14)
    z = world.encode(torch.zeros(1, height, width, 3, dtype=torch.uint8))
    assert z.shape == (1, height * width // 14**2, 32)
