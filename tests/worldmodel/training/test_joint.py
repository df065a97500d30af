"""Small models: specs of what they were trained on, other sizes than a DROID pose."""

import json

import numpy as np
import pytest
import torch

from planning.cli.app import compose_options, main
from worldmodel import load_world_model
from worldmodel.errors import DataError
from worldmodel.training.run import run_task
from worldmodel.training.small_models import measure_scaling
from worldmodel.training.sources import Sources
from worldmodel.training.tasks.joint import JointTask

SIZES = [
    *("image_size=32", "patch_size=32", "stem_channels=[4,8]", "encoder_dim=16", "encoder_heads=2"),
    *("predictor_dim=16", "predictor_depth=1", "predictor_heads=2", "batch_size=4", "steps=3"),
    *("val_clips=6", "log_every=1", "bf16=false", "threads=1", "num_frames=3"),
]


class Clips:
    """Random clips of any state and action size."""

    def __init__(self, state_dim, action_dim, count=12):
        rng = np.random.default_rng(0)
        self.frames = rng.integers(0, 256, (count, 3, 32, 32, 3), dtype=np.uint8)
        self.states = rng.normal(size=(count, 3, state_dim)).astype(np.float32)
        self.actions = rng.normal(size=(count, 2, action_dim)).astype(np.float32)

    def __len__(self):
        return len(self.frames)

    def content_hash(self):
        return "random"

    def batch(self, indices):
        names = ("frames", "states", "actions")
        return {name: getattr(self, name)[indices] for name in names}


@pytest.mark.parametrize("sizes", [(7, 7), (4, 4)])
def test_sizes_of_state_and_action_come_from_the_data(tmp_path, sizes):
    clips = Clips(*sizes)
    options = compose_options("train", [*SIZES, f"out={tmp_path}", "fps=5", "camera=right"])
    summary = run_task(JointTask(options, Sources(clips, clips)))
    world = load_world_model(tmp_path / "model.safetensors", "cpu")
    seen, acts = world.observation_spec, world.action_spec
    assert (seen.state_dim, acts.action_dim) == sizes
    assert (seen.image_size, seen.transform, seen.cameras) == ((32, 32), "droid", ("right",))
    assert (seen.state_frame, acts.gripper, acts.period_s) == ("flange", "command", 0.2)
    assert ("val_action_error_m" in summary["last"]) == (sizes == (7, 7))
    found = world.unroll(
        torch.zeros(1, 1, 16), torch.zeros(1, sizes[0]), torch.zeros(2, 2, sizes[1])
    )
    assert found.shape == (2, 2, 1, 16)


def test_scales_of_poses_wrap_angles_and_keep_the_grippers_range():
    clips = Clips(7, 7)
    clips.states[..., 3] = np.pi - 0.01 * np.sign(clips.states[..., 3])
    clips.states[..., 3] = (clips.states[..., 3] + np.pi) % (2 * np.pi) - np.pi
    scaling, state_dim, action_dim = measure_scaling(clips, seed=0)
    assert (state_dim, action_dim, scaling.wrap_angles) == (7, 7, True)
    assert abs(abs(scaling.state_offset[3]) - np.pi) < 0.02
    assert scaling.state_scale[3] == pytest.approx(0.15)
    assert (scaling.state_scale[6], scaling.action_scale[6]) == pytest.approx((0.4, 0.5))


@pytest.mark.parametrize("sizes", [(7, 7), (4, 4)])
def test_constant_components_get_a_floor_and_are_named(tmp_path, caplog, sizes):
    clips = Clips(*sizes)
    clips.states[..., 2] = 0.3
    clips.actions[..., 2] = 0.0
    options = compose_options("train", [*SIZES, f"out={tmp_path}"])
    scaling, *_ = measure_scaling(clips, seed=0)
    assert min(scaling.state_scale + scaling.action_scale) >= 0.001
    named = "z" if sizes == (7, 7) else "2"
    assert [r.message.split("constant in: ")[1][: len(named) + 1] for r in caplog.records] == [
        f"{named}."
    ] * 2
    summary = run_task(JointTask(options, Sources(clips, clips)))
    assert np.isfinite(summary["last"]["loss"])


def test_scales_of_data_that_vary_are_plain_deviations():
    clips = Clips(7, 7)
    scaling, *_ = measure_scaling(clips, seed=0)
    states = clips.batch(np.arange(len(clips)))["states"].reshape(-1, 7)
    assert scaling.state_scale[:3] == pytest.approx(states[:, :3].std(0).tolist(), rel=1e-5)


def test_a_sample_that_is_not_finite_names_its_components():
    clips = Clips(7, 7)
    clips.states[0, 0, 4] = np.nan
    with pytest.raises(DataError, match=r"states.*\[4\]"):
        measure_scaling(clips, seed=0)


def test_a_run_of_the_command_line_ends_with_its_verdict(tmp_path, capsys):
    data = tmp_path / "data"
    assert main(["collect", f"out={data}", "episodes=3", "length=8", "workers=1"]) == 0
    words = [*SIZES, f"data={data}", f"val={data}", f"cache={tmp_path}/cache", "object=1"]
    assert main(["train", *words, f"out={tmp_path}/run", "experiment=tensorboard"]) == 0
    printed = capsys.readouterr().out
    assert "than copying the last frame" in printed
    assert "its actions: with the actions of other clips" in printed
    assert "cm of not moving" in printed
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [f["name"] for f in summary["verdict"]["findings"]] == [
        "prediction",
        "actions",
        "planning",
    ]
    assert summary["options"]["loop"]["steps"] == 3
    assert (tmp_path / "run" / "training.html").is_file()
    assert list((tmp_path / "run" / "tensorboard").iterdir())
