"""Training on several views: the model keeps their names, and a run keeps its views."""

import json

import numpy as np
import pytest
import torch

from planning.cli.app import compose_options, main
from worldmodel import load_world_model
from worldmodel.data.writers.synthetic import draw_episode, random_states
from worldmodel.errors import ConfigError
from worldmodel.training.distributed import Ranks
from worldmodel.training.objective import MAIN_VIEW_ALONE
from worldmodel.training.run import open_task

SIZES = [
    *("image_size=32", "patch_size=16", "stem_channels=[4,8]", "encoder_dim=16", "encoder_heads=2"),
    *("predictor_dim=16", "predictor_depth=1", "predictor_heads=2"),
]
RUN = ["batch_size=4", "val_clips=6", "log_every=1", "bf16=false", "threads=1", "plan_clips=0"]
VIEWS = ("wrist", "left")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Words of a run on simulated episodes of two cameras."""
    root = tmp_path_factory.mktemp("views")
    made = ["collect", f"out={root}/data", "episodes=2", "length=16", "image_size=32", "seed=1"]
    assert main([*made, "cameras=left,wrist", "mix=contact", "workers=1"]) == 0
    folders = [f"data={root}/data", f"val={root}/data", f"cache={root}/cache"]
    return [*folders, *RUN, "num_frames=5"]


@pytest.fixture(scope="module")
def joint(words, tmp_path_factory):
    out = tmp_path_factory.mktemp("joint") / "run"
    more = ["views=wrist,left", "head_weight=1", "head_label=simulator", "pattern=0.2"]
    assert main(["train", *words, *SIZES, *more, "steps=3", f"out={out}"]) == 0
    return out, [*words, *SIZES, *more]


def test_a_model_of_two_views_is_trained_saved_and_probed(joint, words, tmp_path):
    out, _ = joint
    world = load_world_model(out, "cpu")
    assert world.observation_spec.cameras == VIEWS
    assert (world.num_views, world.config.object_head.num_tokens) == (2, 8)
    assert float(world.predictor.view_embed.std()) > 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["model"]["observation"]["cameras"] == list(VIEWS)
    assert "val_head_imagined_m" in summary["last"]
    probes = [word for word in words if word.split("=")[0] in ("data", "val", "cache")]
    fitted = ["count=40", "fit_steps=5", "rollout_clips=4", f"out={tmp_path}", f"model={out}"]
    assert main(["inspect", "probes", *probes, *fitted]) == 0
    found = json.loads((tmp_path / "summary.json").read_text())
    assert {"pushed", "own_head"} <= found["rollouts"].keys()


def test_a_run_resumes_with_its_own_views_alone(joint, tmp_path, capsys):
    whole, words = joint
    words = [*words, "steps=3", "save_every=1", f"out={tmp_path}"]
    assert main(["train", *words, "stop_after=2"]) == 0
    capsys.readouterr()
    assert main(["train", *words, "views=left,wrist"]) == 2
    assert "clips.views" in capsys.readouterr().err
    assert main(["train", *words]) == 0
    a, b = (load_world_model(folder, "cpu").state_dict() for folder in (whole, tmp_path))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_one_named_view_is_the_camera_alone(words, tmp_path):
    for name, more in (("views", "views=wrist"), ("camera", "camera=wrist")):
        assert main(["train", *words, *SIZES, more, "steps=2", f"out={tmp_path / name}"]) == 0
    a, b = (load_world_model(tmp_path / n, "cpu") for n in ("views", "camera"))
    assert a.config == b.config
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_frozen_tokens_finetuning_and_macro_actions_take_the_views(joint, words, tmp_path):
    out, _ = joint
    views, start = "views=wrist,left", f"encoder={out}"
    frozen = ["mode=frozen", "cache_latents=true", "augment=0", *SIZES[-3:]]
    assert main(["train", *words, *frozen, views, start, "steps=2", f"out={tmp_path / 'a'}"]) == 0
    assert load_world_model(tmp_path / "a", "cpu").observation_spec.cameras == VIEWS
    fine = ["mode=finetune", "warm_predictor=true", "head_weight=1"]
    assert main(["train", *words, *fine, views, start, "steps=2", f"out={tmp_path / 'b'}"]) == 0
    macro = ["mode=macro", "span=2", "macro_dim=16", "macro_depth=1", "macro_heads=2"]
    macro += [word for word in words if not word.startswith("plan_clips")]
    assert main(["train", *macro, views, start, "steps=2", f"out={tmp_path / 'c'}"]) == 0
    world = load_world_model(tmp_path / "c", "cpu")
    assert world.macro.config.predictor.num_views == 2
    assert world.macro.unroll(torch.zeros(1, 8, 16), torch.zeros(2, 2, 8)).shape == (2, 2, 8, 16)
    for mode in (fine, macro):
        options = compose_options("train", [*(words if mode is fine else []), *mode, start])
        with pytest.raises(ConfigError, match=r"\['wrist', 'left'\].*set views=wrist,left"):
            open_task(options, Ranks())


def test_post_training_takes_raw_and_prepared_views(tmp_path, capsys):
    for number in range(3):
        states = random_states(40, number)
        draw_episode(tmp_path / "data", f"e{number}", states, size=(48, 64), cameras=VIEWS)
    post = [
        "mode=post",
        "encoder=random:vit_tiny",
        "image_size=32",
        "views=left,wrist",
        *SIZES[-3:],
    ]
    post += [*RUN, "steps=2", "num_frames=3"]
    raw = [f"data={tmp_path / 'data'}", f"val={tmp_path / 'data'}"]
    assert main(["train", *post, *raw, f"out={tmp_path / 'raw'}"]) == 0
    world = load_world_model(tmp_path / "raw", "cpu")
    assert (world.observation_spec.cameras, world.num_views) == (("left", "wrist"), 2)
    index, made = f"index={tmp_path / 'raw' / 'index'}", f"out={tmp_path / 'made'}"
    features = ["what=features", "encoder=random:vit_tiny", "image_size=32", "views=left,wrist"]
    assert main(["data", "prepare", index, made, *features]) == 0
    ready = [f"data={tmp_path / 'made'}", f"val={tmp_path / 'made'}"]
    assert main(["train", *post, *ready, f"out={tmp_path / 'ready'}"]) == 0
    capsys.readouterr()
    one = [word for word in post if not word.startswith("views")]
    assert main(["train", *one, *ready, f"out={tmp_path / 'one'}"]) == 2
    assert "prepared with views=['left', 'wrist']" in capsys.readouterr().err


def test_the_object_head_learns_from_the_main_view_alone_too(joint, words):
    _, words = joint
    task = open_task(compose_options("train", words), Ranks())
    objective = task.build(torch.device("cpu")).train()
    z, out = torch.ones(400, 5, 8, 16), torch.ones(400, 4, 8, 16)
    seen, imagined = objective._drop_views(z, out)
    alone = (seen[:, :, 4:] == 0).flatten(1).all(1)
    assert alone.float().mean() == pytest.approx(MAIN_VIEW_ALONE, abs=0.1)
    assert torch.equal(seen[~alone], z[~alone])
    assert bool((seen[:, :, :4] == 1).all())
    assert torch.equal(alone, (imagined[:, :, 4:] == 0).flatten(1).all(1))


def test_colours_change_in_all_views_of_a_clip_alike(joint):
    _, words = joint
    options = [*words, "augment=0.5", "hue_deg=90", "pattern=0"]
    task = open_task(compose_options("train", options), Ranks())
    objective = task.build(torch.device("cpu")).train()
    frame = np.random.default_rng(0).integers(0, 256, (2, 1, 1, 32, 32, 3), dtype=np.uint8)
    z = objective.encode(torch.from_numpy(np.tile(frame, (1, 5, 2, 1, 1, 1))))
    first = z.unflatten(2, (2, 4))[:, :1, :1]
    torch.testing.assert_close(z.unflatten(2, (2, 4)), first.expand(2, 5, 2, 4, 16))
    assert not torch.allclose(first[0], first[1])
