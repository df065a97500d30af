"""Specs reject what no model can mean; descriptions of files are validated like any other input."""

import dataclasses
import json
import math
import struct

import pytest

from worldmodel.checkpoint import load_world_model
from worldmodel.checkpoints.loading import embedded_path
from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.models.config_dict import from_dict, to_dict
from worldmodel.models.model_config import FrameEncoderConfig, ModelConfig
from worldmodel.specs import ActionSpec, ObservationSpec

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("period_s", NAN),
        ("period_s", -1.0),
        ("period_s", 0),
        ("period_s", INF),
        ("period_s", "0.25"),
        ("max_step_m", NAN),
        ("max_step_m", -0.1),
        ("max_rotation_rad", INF),
        ("action_dim", 0),
        ("action_dim", True),
        ("action_dim", 7.0),
        ("gripper", "suction"),
    ],
)
def test_action_spec_rejects(name, value):
    with pytest.raises(ConfigError, match=name):
        ActionSpec(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_size", (0, 64)),
        ("image_size", 64),
        ("image_size", (64, 64, 3)),
        ("transform", "stretch"),
        ("cameras", ()),
        ("cameras", ("",)),
        ("frames_per_token", 0),
        ("pixel_mean", (0.5, 0.5)),
        ("pixel_std", (0.2, 0.2, 0.0)),
        ("pixel_std", (0.2, 0.2, NAN)),
        ("state_frame", "elbow"),
        ("state_dim", -7),
    ],
)
def test_observation_spec_rejects(name, value):
    with pytest.raises(ConfigError, match=name):
        ObservationSpec(**{name: value})


def described() -> dict:
    with embedded_path().open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    return json.loads(header["__metadata__"]["worldmodel"])["config"]


def test_a_file_from_before_specs_existed_is_translated():
    model = from_dict(ModelConfig, described())
    assert model.observation == ObservationSpec(image_size=(128, 128), frames_per_token=1)
    assert model.action == ActionSpec(gripper="command")
    assert len(model.scaling.state_scale) == 7
    assert model.scaling.wrap_angles
    assert from_dict(ModelConfig, json.loads(json.dumps(to_dict(model)))) == model
    encoder = {k: v for k, v in described().items() if k in ("encoder", "convention")}
    assert from_dict(FrameEncoderConfig, encoder).observation.transform == "published"


BAD = {
    "convention.step_seconds": [-1, NAN, "x", None],
    "convention.state_scale": [[1.0] * 6, [0.0] * 7, [NAN] * 7, "7"],
    "convention.max_step_m": [NAN, -1],
    "convention.unheard_of": [1],
    "encoder.rope": ["x"],
    "encoder.depth": [10**9, -1, 1.5],
    "encoder.embed_dim": [10**9],
    "predictor.grid": [[1], [1, "a"], [1e9, 1]],
    "predictor.encoder_dim": [255],
    "encoder": [3, None],
}
CASES = [(key, value) for key, values in BAD.items() for value in values]


@pytest.mark.parametrize(("key", "value"), CASES)
def test_a_description_that_means_nothing_is_refused(key, value):
    config = described()
    *parents, last = key.split(".")
    part = config
    for name in parents:
        part = part[name]
    part[last] = value
    with pytest.raises(ConfigError):
        from_dict(ModelConfig, config)


def test_the_refusal_names_the_file(tmp_path):
    data = embedded_path().read_bytes()
    assert data.count(b'step_seconds\\": 0.25') == 1
    file = tmp_path / "negative.safetensors"
    file.write_bytes(data.replace(b'step_seconds\\": 0.25', b'step_seconds\\": -2.5', 1))
    with pytest.raises(CheckpointError, match=r"negative\.safetensors.*period_s"):
        load_world_model(file, "cpu")


def test_a_width_that_does_not_fit_is_refused():
    model = from_dict(ModelConfig, described())
    with pytest.raises(ConfigError, match="state_dim"):
        dataclasses.replace(model, observation=dataclasses.replace(model.observation, state_dim=8))
    with pytest.raises(ConfigError, match="action_dim"):
        dataclasses.replace(model, action=dataclasses.replace(model.action, action_dim=2))
